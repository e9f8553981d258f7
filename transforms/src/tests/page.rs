//! The examples of `docs/windows.md` give what stands below them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{SortColumn, cast, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::util::pretty::pretty_format_batches;

use super::{definition, plan_with, run, scan_schema, state};

const PAGE: &str = include_str!("../../../docs/windows.md");

/// The fenced blocks of the page, with their languages.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let fenced = PAGE.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

/// The rows of a block of CSV as rows of the source of this name.
fn events(sources: &str, name: &str, csv: &str) -> RecordBatch {
    let definition = definition(&format!("{sources} CREATE FEATURE SET s WITH (path = 'x') AS SELECT 1 AS one;"));
    let source = definition.sources.iter().find(|source| source.name.value == name).unwrap();
    let schema = scan_schema(source);
    let columns: Vec<ArrayRef> = (0..schema.fields().len())
        .map(|at| {
            let texts: StringArray = csv.lines().map(|line| line.split(',').nth(at)).collect();
            cast(&texts, schema.field(at).data_type()).unwrap()
        })
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

async fn shown(sources: &str, query: &str, data: &BTreeMap<&str, Vec<RecordBatch>>) -> String {
    let state = state(2);
    let text = format!("{sources} CREATE FEATURE SET s WITH (path = 'x') AS {query};");
    let (plan, found) = plan_with(&text, data, &[], &state);
    let plan = plan.unwrap_or_else(|| panic!("{query}: {found:#?}"));
    let physical = plan.set("s").unwrap().physical(&state).await.unwrap();
    let rows = concat_batches(&physical.schema(), &run(Arc::clone(&physical), &state).await.concat()).unwrap();
    let by: Vec<_> =
        rows.columns().iter().map(|values| SortColumn { values: Arc::clone(values), options: None }).collect();
    let sorted = take_record_batch(&rows, &lexsort_to_indices(&by, None).unwrap()).unwrap();
    pretty_format_batches(&[sorted]).unwrap().to_string()
}

#[tokio::test]
async fn examples_give_what_stands_below_them() {
    let blocks = blocks();
    let [("sql", sources), ("csv", csv), examples @ ..] = blocks.as_slice() else { panic!("{blocks:#?}") };
    let data = BTreeMap::from([("trips", vec![events(sources, "trips", csv)])]);
    assert!(examples.len() >= 16);
    for example in examples.chunks(2) {
        let [("sql", query), ("text", expected)] = example else { panic!("{example:#?}") };
        assert_eq!(shown(sources, query, &data).await, expected.trim_end(), "{query}");
    }
}
