//! What the module `decoder` promises, tested.

use arrow::array::Array;
use arrow::array::cast::AsArray;
use arrow::array::types::UInt64Type;
use arrow_schema::DataType;
use proptest::prelude::*;

use super::super::testing::{columns, csv, json, options, outcome};
use super::super::{DecodeLimits, FileFault, ORIGINAL_BYTES_MAX, reject_schema};
use super::{Decoded, EventTimeBounds, TextDecoder, TextDecoderOptions};

fn decode(decoder: &mut TextDecoder, text: &[u8], piece: usize) -> Vec<Decoded> {
    for piece in text.chunks(piece) {
        decoder.feed(piece).unwrap();
    }
    decoder.finish_object().unwrap();
    std::iter::from_fn(|| decoder.next_batch()).collect()
}

fn json_decoder(limits: DecodeLimits) -> TextDecoder {
    TextDecoder::new(TextDecoderOptions { limits, ..options(json(), columns(&[DataType::Int64])) }).unwrap()
}

#[test]
fn batches_are_cut_by_rows_and_objects() {
    let mut decoder = json_decoder(DecodeLimits { batch_rows: 2, ..DecodeLimits::default() });
    let text = b"{\"a\":1}\nx\n\n{\"a\":2}\n{\"a\":3}\n";
    for _ in 0..2 {
        let batches = decode(&mut decoder, text, 5);
        let runs: Vec<_> = batches.iter().map(|decoded| format!("{:?}", decoded.numbers.runs())).collect();
        assert_eq!(runs, ["[0..1, 2..3]", "[3..4]"]);
        assert_eq!(batches[0].numbers.to_array().values().to_vec(), [0, 2]);
        assert_eq!((batches[0].numbers.len(), batches[0].numbers.is_empty()), (2, false));
    }
    assert_eq!(decoder.rejects_waiting(), 2);
}

#[test]
fn batches_are_cut_by_bytes() {
    let line = format!("{{\"a\":1,\"z\":\"{}\"}}\n", "x".repeat(1 << 20));
    let mut decoder = json_decoder(DecodeLimits::default());
    let rows: Vec<_> = decode(&mut decoder, line.repeat(20).as_bytes(), 1 << 20)
        .iter()
        .map(|decoded| decoded.batch.num_rows())
        .collect();
    assert_eq!(rows, [16, 4]);
}

#[test]
fn record_with_a_bad_event_time_is_rejected_with_its_own_bytes_and_place() {
    let micros = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None);
    for (format, text, places) in [
        (
            json(),
            "{\"a\":\"1970-01-01\",\"b\":1}\n\n{\"b\":2}\nbad\n{\"a\":\"1970-01-03\",\"b\":4}",
            ["1|3|26|7|null_event_time|a", "2|4|34|3|invalid_json|", "3|5|38|24|event_time_ahead|a"],
        ),
        (
            csv(),
            "b,a\n1,1970-01-01\n\"2\n\",\n2,\n3,1970-01-03\n",
            ["1|3|17|5|wrong_type|b", "2|5|23|2|null_event_time|a", "3|6|26|12|event_time_ahead|a"],
        ),
    ] {
        for time in [micros.clone(), DataType::Date32] {
            let fields = columns(&[time, DataType::Int64]);
            let projection = Some(vec![0]);
            let mut decoder =
                TextDecoder::new(TextDecoderOptions { projection, ..options(format.clone(), fields) }).unwrap();
            decoder.judge_event_times(0, EventTimeBounds::until(86_400_000_000)).unwrap();
            decoder.feed(text.as_bytes()).unwrap();
            let counts = decoder.finish_object().unwrap();
            assert_eq!((counts.records, counts.rejected, counts.bad_event_times), (4, 3, 2));
            assert_eq!(decoder.next_batch().unwrap().numbers.iter().collect::<Vec<_>>(), [0]);
            let rejects = decoder.take_rejects().unwrap().unwrap();
            let shown = |row: usize| {
                let text =
                    |column: usize| arrow::util::display::array_value_to_string(rejects.column(column), row).unwrap();
                (0..6).map(text).collect::<Vec<_>>().join("|")
            };
            assert_eq!((0..3).map(shown).collect::<Vec<_>>(), places);
            for row in 0..3 {
                let number = |column: usize| rejects.column(column).as_primitive::<UInt64Type>().value(row);
                let (start, length) = (usize::try_from(number(2)).unwrap(), usize::try_from(number(3)).unwrap());
                let original = rejects.column(6).as_binary::<i32>().value(row);
                assert_eq!(original, &text.as_bytes()[start..start + length]);
            }
        }
    }
    let mut decoder = json_decoder(DecodeLimits::default());
    assert!(decoder.judge_event_times(0, EventTimeBounds::until(0)).is_err());
}

#[test]
fn late_record_is_rejected_as_it_is_written_or_only_counted() {
    use arrow_schema::TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let text = "{\"a\":\"1970-01-02T00:00:01\"}\n{\"a\":\"1970-01-01T23:59:59\"}\n{\"a\":\"1970-01-02\"}\n{\"a\":null}";
    let (day, second) = (86_400_000_000, 1_000_000);
    let times = [Second, Millisecond, Microsecond, Nanosecond].map(|unit| DataType::Timestamp(unit, None));
    for time in times {
        // One that the unit cannot hold is passed by the next that it can.
        for (late_before, drops_late, late) in [
            (day - second + 1, false, 1),
            (day, true, 1),
            (day + 1, false, 2),
            (i64::MAX, true, 3),
            (i64::MIN, false, 0),
        ] {
            let mut decoder = TextDecoder::new(options(json(), columns(std::slice::from_ref(&time)))).unwrap();
            let bounds =
                EventTimeBounds { late_before: Some(late_before), drops_late, ..EventTimeBounds::until(2 * day) };
            decoder.judge_event_times(0, bounds).unwrap();
            for _ in 0..2 {
                decoder.feed(text.as_bytes()).unwrap();
                let counts = decoder.finish_object().unwrap();
                let expected = (4, late + 1, late, 1);
                assert_eq!((counts.records, counts.rejected, counts.late, counts.bad_event_times), expected, "{time}");
                assert_eq!(counts.event_time_max, (late < 3).then_some(day + second), "{time}");
                let rows = decoder.next_batch().map_or(0, |decoded| decoded.batch.num_rows() as u64);
                assert_eq!(rows, 3 - late);
                let rejects = decoder.take_rejects().unwrap().unwrap();
                let reasons: Vec<_> = rejects.column(4).as_string::<i32>().iter().flatten().collect();
                let quarantined = if drops_late { 0 } else { usize::try_from(late).unwrap() };
                assert_eq!(reasons, [vec!["late"; quarantined], vec!["null_event_time"]].concat());
                if quarantined > 0 {
                    let original = rejects.column(6).as_binary::<i32>().value(0);
                    assert_eq!(original, b"{\"a\":\"1970-01-01T23:59:59\"}");
                }
            }
        }
    }
    let mut decoder = TextDecoder::new(options(csv(), columns(&[DataType::Date32]))).unwrap();
    let bounds = EventTimeBounds { late_before: Some(1), ..EventTimeBounds::until(9 * day) };
    decoder.judge_event_times(0, bounds).unwrap();
    decoder.feed(b"a\n1970-01-01\n1970-01-02\n").unwrap();
    let counts = decoder.finish_object().unwrap();
    assert_eq!((counts.late, counts.event_time_max), (1, Some(day)));
}

#[test]
fn rejects_say_where_they_were() {
    let mut decoder = json_decoder(DecodeLimits::default());
    decode(&mut decoder, b"\xef\xbb\xbf{\"a\":1}\r\n\r\nbad\r\n{\"a\":true}\n", 4);
    let rejects = decoder.take_rejects().unwrap().unwrap();
    assert_eq!(rejects.schema(), reject_schema());
    let number = |column: usize, row: usize| rejects.column(column).as_primitive::<UInt64Type>().value(row);
    let numbers = |row: usize| (number(0, row), number(1, row), number(2, row), number(3, row));
    assert_eq!(numbers(0), (1, 3, 14, 3));
    assert_eq!(numbers(1), (2, 4, 19, 10));
    let originals = rejects.column(6).as_binary::<i32>();
    assert_eq!((originals.value(0), originals.value(1)), (&b"bad"[..], &b"{\"a\":true}"[..]));
    let column = rejects.column(5).as_string::<i32>();
    assert!(column.is_null(0));
    assert_eq!(column.value(1), "a");
    assert!(decoder.take_rejects().unwrap().is_none());
}

#[test]
fn lines_inside_quotes_count() {
    let mut decoder = TextDecoder::new(options(csv(), columns(&[DataType::Int64]))).unwrap();
    decode(&mut decoder, b"a,b\n1,\"x\ny\"\n\nz,\"\n\"\nw,1", 1);
    let rejects = decoder.take_rejects().unwrap().unwrap();
    let lines = rejects.column(1).as_primitive::<UInt64Type>();
    assert_eq!(lines.values().to_vec(), [5, 7]);
}

#[test]
fn a_record_too_long_keeps_a_prefix_and_its_length() {
    let mut decoder = json_decoder(DecodeLimits { max_record_bytes: 1 << 20, ..DecodeLimits::default() });
    let piece = vec![b'x'; 1 << 20];
    decoder.feed(b"{\"a\":1}\n").unwrap();
    for _ in 0..50 {
        decoder.feed(&piece).unwrap();
        assert!(decoder.framer.memory() <= 4 << 20, "memory is bounded");
    }
    decoder.feed(b"\n{\"a\":2}").unwrap();
    let counts = decoder.finish_object().unwrap();
    assert_eq!((counts.records, counts.rejected, counts.bytes), (3, 1, (50 << 20) + 16));
    let rejects = decoder.take_rejects().unwrap().unwrap();
    assert_eq!(rejects.column(3).as_primitive::<UInt64Type>().value(0), 50 << 20);
    assert_eq!(rejects.column(4).as_string::<i32>().value(0), "record_too_long");
    assert_eq!(rejects.column(6).as_binary::<i32>().value(0).len(), ORIGINAL_BYTES_MAX);
}

#[test]
fn utf16_is_named() {
    for mark in [b"\xff\xfe{\0", b"\xfe\xff\0{"] {
        let fault = outcome(options(json(), columns(&[DataType::Int64])), mark).unwrap_err();
        assert!(matches!(fault, FileFault::Unreadable { offset: 0, reason } if reason.contains("UTF-16")));
    }
}

#[test]
fn an_abandoned_object_leaves_nothing() {
    let mut decoder = TextDecoder::new(options(csv(), columns(&[DataType::Int64]))).unwrap();
    decoder.feed(b"a\n1\nx\n2\n\"op").unwrap();
    decoder.abandon_object().unwrap();
    let batches = decode(&mut decoder, b"b,a\n7,3\n", 2);
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].batch.num_rows(), 1);
    assert_eq!(batches[0].numbers.iter().collect::<Vec<_>>(), [0]);
    assert!(decoder.take_rejects().unwrap().is_none());
}

#[test]
fn rows_without_columns_are_counted() {
    let made = TextDecoderOptions { projection: Some(vec![]), ..options(json(), columns(&[DataType::Int64])) };
    let mut decoder = TextDecoder::new(made).unwrap();
    let batches = decode(&mut decoder, b"{}\n{\"a\":1}\n", 100);
    assert_eq!((batches[0].batch.num_rows(), batches[0].batch.num_columns()), (2, 0));
}

#[test]
fn empty_objects_have_no_rows() {
    for text in [&b""[..], b"\n", b"\xef\xbb\xbf", b"\r\n\n  \n"] {
        assert_eq!(outcome(options(json(), columns(&[DataType::Int64])), text).unwrap(), [""; 0]);
    }
}

proptest! {
    #[test]
    fn pieces_change_nothing(text in "[{}\":a1,\n\r \\\\é]{0,80}", pieces in 1..9_usize, is_json: bool, max in 5..100_usize) {
        let limits = DecodeLimits { max_record_bytes: max, ..DecodeLimits::default() };
        let format = if is_json { json() } else { super::super::TextFormat::Csv(super::super::CsvOptions {
            header: false, ..Default::default()
        }) };
        let fields = columns(&[DataType::Utf8, DataType::Int64]);
        let run = |piece: usize| {
            let made = TextDecoderOptions { limits, ..options(format.clone(), fields.clone()) };
            let mut decoder = TextDecoder::new(made).unwrap();
            let batches: Vec<_> = decode(&mut decoder, text.as_bytes(), piece)
                .into_iter().map(|decoded| (decoded.batch, decoded.numbers)).collect();
            (batches, decoder.take_rejects().unwrap())
        };
        prop_assert_eq!(run(pieces), run(usize::MAX));
    }
}
