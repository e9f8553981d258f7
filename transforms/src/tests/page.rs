//! The examples of pages in `docs/` give what stands below them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{SortColumn, cast, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::util::pretty::pretty_format_batches;
use bessemer_schemas::SourceDefinition;

use super::{definition, plan_with, run, scan_schema, state};

const CLOSING: &str = include_str!("../../../docs/closing.md");
const JOINS: &str = include_str!("../../../docs/joins.md");
const WINDOWS: &str = include_str!("../../../docs/windows.md");

/// The fenced blocks of a page, with their languages.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let fenced = page.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

/// The rows of a block of CSV as rows of `source`.
fn rows(source: &SourceDefinition, csv: &str) -> RecordBatch {
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

/// Runs the examples of a page that begins with sources, then their rows, each in a block of its own.
async fn check(page: &str, examples: usize) {
    let blocks = blocks(page);
    let Some((("sql", sources), blocks)) = blocks.split_first() else { panic!("{blocks:#?}") };
    let definition = definition(&format!("{sources} CREATE FEATURE SET s WITH (path = 'x') AS SELECT 1 AS one;"));
    let (given, blocks) = blocks.split_at(definition.sources.len());
    let data = definition.sources.iter().zip(given).map(|(source, (language, csv))| {
        assert_eq!(*language, "csv");
        (source.name.value.as_str(), vec![rows(source, csv)])
    });
    let data = data.collect();
    assert_eq!(blocks.len(), 2 * examples);
    for example in blocks.chunks(2) {
        let [("sql", query), ("text", expected)] = example else { panic!("{example:#?}") };
        assert_eq!(shown(sources, query, &data).await, expected.trim_end(), "{query}");
    }
}

#[tokio::test]
async fn examples_of_joins_give_what_stands_below_them() {
    check(JOINS, 6).await;
}

#[test]
fn examples_of_rows_that_become_final_are_such() {
    let Some(("sql", text)) = blocks(CLOSING).first().copied() else { panic!("it begins with an example") };
    let sets = [("rider_hours", "day(window_end)"), ("recent_trips", "day(at)")];
    let (plan, found) = plan_with(text, &BTreeMap::new(), &sets, &state(2));
    let plan = plan.unwrap_or_else(|| panic!("{found:#?}"));
    assert!(sets.iter().all(|(set, _)| plan.set(set).unwrap().emits().is_some()));
}

#[tokio::test]
async fn examples_of_windows_give_what_stands_below_them() {
    check(WINDOWS, 8).await;
}
