//! What the module `partition` promises, tested.

use arrow::array::{
    BooleanArray, Date32Array, Int64Array, StringArray, StringDictionaryBuilder, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::datatypes::{Field, Int8Type};
use chrono::{DateTime, Datelike};
use proptest::prelude::*;

use super::*;

fn texts(column: ArrayRef, partition_by: &str) -> Vec<(usize, Option<String>)> {
    let batch = RecordBatch::try_from_iter([("c", column)]).unwrap();
    let fields = PartitionField::parse_list(partition_by).unwrap();
    let runs = Partitioner::new(&fields, &batch.schema()).unwrap().runs(&batch).unwrap();
    runs.into_iter().map(|mut run| (run.rows.len(), run.values.remove(0).1)).collect()
}

fn some(rows: usize, value: &str) -> (usize, Option<String>) {
    (rows, Some(value.to_owned()))
}

#[test]
fn runs_are_rows_of_one_value() {
    let carriers = StringArray::from(vec![None, None, Some("AA"), Some("AA"), Some("UA")]);
    assert_eq!(texts(Arc::new(carriers), "c"), [(2, None), some(2, "AA"), some(1, "UA")]);
    assert_eq!(texts(Arc::new(Int64Array::from(vec![-5, 7])), "c"), [some(1, "-5"), some(1, "7")]);
    assert_eq!(texts(Arc::new(BooleanArray::from(vec![false, true])), "c"), [some(1, "false"), some(1, "true")]);
    assert_eq!(texts(Arc::new(Date32Array::from(vec![-1, 0])), "c"), [some(1, "1969-12-31"), some(1, "1970-01-01")]);
    let mut words = StringDictionaryBuilder::<Int8Type>::new();
    words.extend([Some("a"), Some("a"), None]);
    assert_eq!(texts(Arc::new(words.finish()), "c"), [some(2, "a"), (1, None)]);
}

#[test]
fn times_are_rounded_down() {
    let at =
        TimestampNanosecondArray::from(vec![Some(-1), Some(0), Some(3_599_999_999_999), Some(3_600_000_000_000), None]);
    assert_eq!(
        texts(Arc::new(at), "hour(c)"),
        [some(1, "1969-12-31-23"), some(2, "1970-01-01-00"), some(1, "1970-01-01-01"), (1, None)]
    );
    let at = TimestampMillisecondArray::from(vec![-1, 0, 86_399_999, 86_400_000]).with_timezone("UTC");
    assert_eq!(texts(Arc::new(at), "day(c)"), [some(1, "1969-12-31"), some(2, "1970-01-01"), some(1, "1970-01-02")]);
    let days = Date32Array::from(vec![-1, 0, 30, 31, 365]);
    assert_eq!(
        texts(Arc::new(days), "month(c)"),
        [some(1, "1969-12"), some(2, "1970-01"), some(1, "1970-02"), some(1, "1971-01")]
    );
    assert_eq!(texts(Arc::new(Date32Array::from(vec![1])), "hour(c)"), [some(1, "1970-01-02-00")]);
}

proptest! {
    #[test]
    fn days_are_those_of_the_calendar(second in -60_000_000_000_i64..200_000_000_000) {
        let day = DateTime::from_timestamp(second, 0).unwrap().date_naive();
        let at: ArrayRef = Arc::new(TimestampSecondArray::from(vec![second]));
        prop_assert_eq!(texts(Arc::clone(&at), "day(c)"), [some(1, &format!("{:04}-{:02}-{:02}", day.year(), day.month(), day.day()))]);
        prop_assert_eq!(texts(at, "month(c)"), [some(1, &format!("{:04}-{:02}", day.year(), day.month()))]);
    }
}

#[test]
fn types_that_are_no_partition_are_refused_with_what_to_write() {
    let refused = |transform, data_type| refusal(transform, &data_type);
    let at = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert!(refused(PartitionTransform::Identity, at.clone()).unwrap().contains("write `day(…)`"));
    assert!(refused(PartitionTransform::Identity, DataType::Float64).is_some());
    assert!(refused(PartitionTransform::Day, DataType::Utf8).is_some());
    assert_eq!(refused(PartitionTransform::Day, at), None);
    let berlin = DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into()));
    assert!(refused(PartitionTransform::Day, berlin).unwrap().contains("Europe/Berlin"));
    assert_eq!(refused(PartitionTransform::Identity, DataType::Utf8View), None);
}

#[test]
fn an_absent_partition_column_is_an_error() {
    let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true)]);
    assert!(Partitioner::new(&PartitionField::parse_list("b").unwrap(), &schema).is_err());
}
