//! Rows of the sets and quarantines of the pipelines that are simulated.

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;

/// What a row, or a record in quarantine, is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row {
    Number(i64),
    Total(String, i64, i64),
    Features(i64, i64, i64),
}

/// What the rows of a set or of a quarantine are known by.
pub(super) fn rows_in(batch: &RecordBatch) -> Vec<Row> {
    let integers =
        |name: &str| batch.column_by_name(name).map(|column| column.as_primitive::<Int64Type>().values().to_vec());
    if let Some(original) = batch.column_by_name("original") {
        let digits =
            |text: &[u8]| String::from_utf8_lossy(text).chars().filter(char::is_ascii_digit).collect::<String>();
        return original
            .as_binary::<i32>()
            .iter()
            .map(|text| Row::Number(digits(text.unwrap()).parse().unwrap()))
            .collect();
    }
    match (integers("number"), integers("records"), integers("total")) {
        (Some(numbers), Some(records), Some(totals)) => {
            let features = numbers.into_iter().zip(records).zip(totals);
            features.map(|((number, records), total)| Row::Features(number, records, total)).collect()
        }
        (Some(numbers), _, _) => numbers.into_iter().map(Row::Number).collect(),
        (_, Some(records), Some(totals)) => {
            let kinds = batch.column_by_name("kind").unwrap().as_string::<i32>();
            let counts = records.into_iter().zip(totals);
            kinds
                .iter()
                .zip(counts)
                .map(|(kind, (records, total))| Row::Total(kind.unwrap().to_owned(), records, total))
                .collect()
        }
        _ => panic!("rows of neither kind: {:?}", batch.schema()),
    }
}
