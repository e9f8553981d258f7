//! Records that say with which schema they were written.

use bessemer_schemas::{Digest, RejectReason};
use tokio_util::sync::CancellationToken;

use super::payload::PayloadDecoder;
use super::*;
use crate::Location;
use crate::formats::text::DecodeLimits;

/// A source of Protobuf whose registry has gone; `schemas` are kept of it, by their numbers.
async fn source(folder: &std::path::Path, schemas: &[(u32, &str)]) -> Arc<KafkaSource> {
    let url = "http://127.0.0.1:1/";
    let kept = folder.join("schemas").join(&Digest::of(url.as_bytes()).to_string()[..16]);
    std::fs::create_dir_all(&kept).unwrap();
    for (id, schema) in schemas {
        std::fs::write(kept.join(format!("{id}.json")), schema).unwrap();
    }
    let options = [
        ("bootstrap_servers", "127.0.0.1:1"),
        ("format", "protobuf"),
        ("schema_registry", url),
        ("on_error", "quarantine"),
    ];
    let mut definition = definition(&[], &options);
    let (options, diagnostics) = KafkaSourceOptions::parse(&mut definition, folder);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let state = Location::local(folder).unwrap();
    KafkaSource::open(&definition, options.unwrap(), Some(&state)).await.unwrap()
}

/// A record of a schema, which names its message by `path`: field 1 is 7.
fn record(id: u8, path: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, id][..], path, &[8, 7]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_take_nothing_from_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let flight = r#"{"schemaType": "PROTOBUF", "schema": "syntax = \"proto3\"; message F { int64 id = 1; }"}"#;
    let other = r#"{"schemaType": "XML", "schema": "<a/>"}"#;
    let source = source(folder.path(), &[(1, flight), (2, other)]).await;
    let decode = move || {
        let mut decoder =
            PayloadDecoder::new(&source, &[0], DecodeLimits::default(), &CancellationToken::new()).unwrap();
        let mut push = |record: Vec<u8>| decoder.push(0, &record).unwrap().map_err(|fault| fault.reason);
        // Every index that is no message of the schema, in two bytes.
        for index in 64_u16..4_096 {
            let [low, high] = [index * 2 % 128, index * 2 / 128].map(|byte| u8::try_from(byte).unwrap());
            assert_eq!(push(record(1, &[2, low | 0x80, high])), Err(RejectReason::InvalidFraming));
        }
        // The first message, in all the ways to write it.
        for path in [&[0][..], &[2, 0], &[0x80, 0], &[2, 0x80, 0x80, 0]] {
            assert_eq!(push(record(1, path)), Ok(()), "{path:?}");
        }
        assert_eq!(push(record(2, &[0])), Err(RejectReason::SchemaMismatch));
        decoder.take(true).unwrap().unwrap()[0].as_primitive::<Int64Type>().values().to_vec()
    };
    assert_eq!(tokio::task::spawn_blocking(decode).await.unwrap(), [7; 4]);
}
