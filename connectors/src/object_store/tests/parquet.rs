//! Parquet: row groups left out by statistics, files read in pieces, damage.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt64Type;
use arrow_schema::DataType;
use datafusion_common::DFSchema;
use datafusion_expr::{Expr, col, lit};
use proptest::prelude::*;
use tempfile::tempdir;

use super::harness::*;
use crate::Error;

#[tokio::test]
async fn pruned_row_groups_are_not_read_but_counted() {
    let folder = tempdir().unwrap();
    write(folder.path(), "a.parquet", &parquet(&rows(0..10_000), 100));
    let source = open(folder.path(), Some(columns()), &[("path", "a.parquet")]).await.unwrap();
    let filters = [col("id").gt_eq(lit(250_i64)), col("id").lt(lit(350_i64))];
    let all = scan(&source, Ask::default()).await.unwrap();
    let some = scan(&source, Ask { filters: &filters, ..Ask::default() }).await.unwrap();
    assert_eq!(some.text(), text(&[rows(200..400)]));
    assert_eq!(some.ledger, all.ledger);
    assert!(some.bytes * 10 < all.bytes, "{} of {}", some.bytes, all.bytes);
}

#[tokio::test]
async fn row_group_with_a_null_in_not_null_is_never_pruned() {
    let folder = tempdir().unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)]));
    let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("key", keys, true)]).unwrap();
    write(folder.path(), "a.parquet", &parquet(&batch, 2));
    let declared = vec![column("id", DataType::Int64, true), column("key", DataType::Int64, false)];
    let source = open(folder.path(), Some(declared), &[("path", "a.parquet")]).await.unwrap();
    let filters = [col("id").gt(lit(100_i64))];
    let scanned = scan(&source, Ask { filters: &filters, projection: Some(&[0]), ..Ask::default() }).await.unwrap();
    assert_eq!(scanned.reasons(), ["1|null_in_not_null|key"]);
    assert_eq!((scanned.ledger.records, scanned.ledger.admitted), (4, 3));
}

#[tokio::test]
async fn row_group_with_nan_is_not_pruned_by_its_numbers() {
    let folder = tempdir().unwrap();
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, 2.0, -f64::NAN, 3.0, 4.0]));
    let singles: ArrayRef = Arc::new(Float32Array::from(vec![1.0, f32::NAN, 2.0, -f32::NAN, 3.0, 4.0]));
    let batch = RecordBatch::try_from_iter([("x", doubles), ("y", singles)]).unwrap();
    write(folder.path(), "a.parquet", &parquet(&batch, 2));
    let source = open(folder.path(), None, &[("path", "a.parquet")]).await.unwrap();
    // The engine orders NaN above infinity, and a negative one below.
    let (x, y) = (|| col("x"), || col("y"));
    for filter in [x().gt(lit(5.0)), x().lt(lit(-5.0)), y().gt(lit(5.0_f32)), y().lt(lit(-5.0_f32))] {
        let scanned = scan(&source, Ask { filters: std::slice::from_ref(&filter), ..Ask::default() }).await.unwrap();
        assert_eq!(scanned.text().iter().filter(|row| row.contains("NaN")).count(), 2, "{filter}");
    }
}

#[tokio::test]
async fn refused_rows_are_reported_in_bounded_groups_with_bounded_originals() {
    let folder = tempdir().unwrap();
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![None; 1_000]));
    let text = |row: usize| if row == 300 { "x".repeat(100_000) } else { row.to_string() };
    let texts: ArrayRef = Arc::new((0..1_000).map(|row| Some(text(row))).collect::<arrow::array::StringArray>());
    let batch = RecordBatch::try_from_iter_with_nullable([("key", keys, true), ("text", texts, true)]).unwrap();
    let declared = vec![column("key", DataType::Int64, false), column("text", DataType::Utf8, true)];
    for (name, bytes) in [("a.parquet", parquet(&batch, 600)), ("a.arrow", ipc_file(&batch))] {
        write(folder.path(), name, &bytes);
        let source = open(folder.path(), Some(declared.clone()), &[("path", name)]).await.unwrap();
        let scanned = scan(&source, Ask { projection: Some(&[0]), ..Ask::default() }).await.unwrap();
        assert!(scanned.rejects.iter().all(|batch| batch.num_rows() <= 256), "{name}");
        let rejects = arrow::compute::concat_batches(&scanned.rejects[0].schema(), &scanned.rejects).unwrap();
        assert_eq!(rejects.num_rows(), 1_000, "{name}");
        let (lengths, originals) =
            (rejects.column(3).as_primitive::<UInt64Type>(), rejects.column(6).as_binary::<i32>());
        for row in [0, 300, 599, 600, 999] {
            let whole = format!("{{\"key\":null,\"text\":\"{}\"}}", text(row));
            assert_eq!(lengths.value(row), whole.len() as u64, "{name} {row}");
            assert_eq!(originals.value(row), &whole.as_bytes()[..whole.len().min(64 << 10)], "{name} {row}");
        }
    }
}

#[tokio::test]
async fn one_large_file_is_read_by_all_partitions() {
    let folder = tempdir().unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(
        (0..1_000_000).map(|id: i64| id.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed())),
    ));
    let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let bytes = parquet(&batch, 50_000);
    assert!(bytes.len() > 4 << 20);
    write(folder.path(), "a.parquet", &bytes);
    let source = open(folder.path(), None, &[("path", "a.parquet")]).await.unwrap();
    let objects = listed(&source).await.unwrap();
    let scans = crate::object_store::EpochScans::silent();
    let (plan, _) = plan(&source, &objects, &Ask { partitions: 4, ..Ask::default() }, scans).await;
    assert_eq!(plan.properties().partitioning.partition_count(), 4);
    let scanned = scan(&source, Ask { partitions: 4, ..Ask::default() }).await.unwrap();
    assert!(scanned.whole(&batch.schema()).column(0) == batch.column(0));
    assert_eq!((scanned.ledger.objects, scanned.ledger.records), (1, 1_000_000));
}

#[tokio::test]
async fn footer_that_lies_ends_in_an_error() {
    let folder = tempdir().unwrap();
    let whole = parquet(&rows(0..1_000), 100);
    // The length of the metadata, its high bytes, and the magic bytes after it; then a page in the middle, and the first.
    let (length, high, magic) = (whole.len() - 8, whole.len() - 6, whole.len() - 4);
    for at in [length, high, magic, whole.len() / 2, 10] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x5a;
        bytes[at + 1] ^= 0xff;
        write(folder.path(), "a.parquet", &bytes);
        let source = open(folder.path(), Some(columns()), &[("path", "a.parquet")]).await.unwrap();
        match scan(&source, Ask::default()).await {
            Err(Error::BadFile { path, .. }) => assert_eq!(path, "a.parquet"),
            // A flipped bit in uncompressed values cannot be seen without a checksum; one in the footer always can.
            other => {
                let scanned = other.unwrap();
                assert!(at < length, "{at} gave {} batches", scanned.batches.len());
            }
        }
    }
}

#[tokio::test]
async fn slices_are_bounded_by_rows() {
    let folder = tempdir().unwrap();
    for name in ["a", "b", "c"] {
        write(folder.path(), &format!("{name}.parquet"), &parquet(&rows(0..60), 50));
    }
    let source = open(folder.path(), Some(columns()), &[("path", "*.parquet")]).await.unwrap();
    let mut listing = source.list(Box::pin(futures::stream::empty())).await.unwrap();
    let mut limits = bessemer_schemas::SliceLimits { rows: 130, ..Default::default() };
    assert_eq!(listing.next_slice(&mut limits).await.unwrap().len(), 2);
    assert_eq!(limits.rows, 10);
    assert_eq!(listing.next_slice(&mut limits).await.unwrap().len(), 1);
}

fn predicates() -> impl Strategy<Value = Expr> {
    let bound = -10..130_i64;
    prop_oneof![
        bound.clone().prop_map(|at| col("id").gt(lit(at))),
        bound.clone().prop_map(|at| col("id").eq(lit(at))),
        bound.clone().prop_map(|at| col("amount").lt(lit(at as f64 / 3.0))),
        bound.prop_map(|at| col("name").lt(lit(format!("näme \"{at}")))),
        Just(col("name").is_null()),
        Just(col("amount").is_not_null()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn pruning_loses_no_row_that_the_filter_keeps(
        filters in prop::collection::vec(predicates(), 1..3),
        group_rows in 1..40_usize,
        partitions in 1..4_usize,
    ) {
        let folder = tempdir().unwrap();
        write(folder.path(), "a.parquet", &parquet(&rows(0..70), group_rows));
        write(folder.path(), "b.parquet", &parquet(&rows(70..120), group_rows));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let source = open(folder.path(), Some(columns()), &[("path", "*.parquet")]).await.unwrap();
            let ask = Ask { filters: &filters, partitions, ..Ask::default() };
            let scanned = scan(&source, ask).await.unwrap();
            let kept = |batch: RecordBatch| {
                let schema = DFSchema::try_from(batch.schema()).unwrap();
                let predicate = filters.iter().cloned().reduce(Expr::and).unwrap();
                let predicate = super::session::physical_expr(&predicate, &schema).unwrap();
                let mask = predicate.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
                let mask = AsArray::as_boolean(&mask).clone();
                text(&[filter_record_batch(&batch, &mask).unwrap()])
            };
            assert_eq!(kept(scanned.whole(source.schema())), kept(rows(0..120)));
            assert_eq!(scanned.ledger.admitted, 120);
        });
    }
}
