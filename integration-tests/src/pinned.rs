//! What the feature sets of the example must hold, as `DuckDB` computed it, and the comparison with what they do hold.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bessemer_schemas::Digest;
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::{Kind, Rows};

/// Two floats that differ by no more than this, relatively, are the same: `DuckDB` may add in another order.
const FLOAT_TOLERANCE: f64 = 1e-12;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The results in one folder below `integration-tests/oracle/expected`.
#[derive(Debug)]
pub struct Pinned {
    folder: PathBuf,
    /// `counts.json`: records of each source, fates of the rows of each set.
    pub counts: Value,
}

impl Pinned {
    /// Opens a folder of results.
    pub fn open(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join("counts.json"))?;
        Ok(Self { folder: folder.to_path_buf(), counts: serde_json::from_str(&text)? })
    }

    /// The count of a set's rows that met a fate: `written`, `quarantined` or `dropped`.
    pub fn count(&self, set: &str, fate: &str) -> Result<u64> {
        self.counts["sets"][set][fate].as_u64().with_context(|| format!("no count `{fate}` for `{set}`"))
    }

    /// Fails, saying where, unless `found` is what `set` must hold.
    pub fn compare(&self, set: &str, found: &Rows) -> Result<()> {
        let rows = self.folder.join(format!("{set}.csv.gz"));
        let compared = if rows.is_file() {
            same_rows(&read_pinned(&rows)?, found)
        } else {
            same_digests(&fs::read_to_string(self.folder.join(format!("{set}.digests.csv")))?, found)
        };
        compared.with_context(|| format!("feature set `{set}`"))
    }
}

/// Fails at the first difference between the two, whatever their order.
fn same_rows(expected: &Rows, found: &Rows) -> Result<()> {
    let names: Vec<_> = expected.columns.iter().map(|(name, _)| name.as_str()).collect();
    let found = found.select(&names)?.sorted();
    same_columns(&expected.columns, &found)?;
    let expected = expected.clone().sorted();
    for (expected_row, found_row) in expected.rows.iter().zip(&found.rows) {
        let cells = expected.columns.iter().zip(expected_row.iter().zip(found_row));
        for ((name, kind), (expected, found)) in cells {
            ensure!(
                is_same(*kind, expected, found),
                "column `{name}` is {found} instead of {expected}\nexpected {expected_row:?}\n   found {found_row:?}"
            );
        }
    }
    ensure!(expected.rows.len() == found.rows.len(), "{} rows instead of {}", found.rows.len(), expected.rows.len());
    Ok(())
}

fn same_columns(expected: &[(String, Kind)], found: &Rows) -> Result<()> {
    ensure!(expected == found.columns, "columns are {:?} instead of {expected:?}", found.columns);
    Ok(())
}

fn is_same(kind: Kind, expected: &str, found: &str) -> bool {
    if expected == found || kind != Kind::Float {
        return expected == found;
    }
    match (expected.parse::<f64>(), found.parse::<f64>()) {
        (Ok(expected), Ok(found)) => (expected - found).abs() <= FLOAT_TOLERANCE * expected.abs().max(found.abs()),
        _ => false,
    }
}

/// Compares one digest for each day; the days by the column `scheduled`.
fn same_digests(pinned: &str, found: &Rows) -> Result<()> {
    let mut lines = pinned.lines();
    let header = lines.next().and_then(|line| line.strip_prefix("# ")).context("no header")?;
    let columns = parse_header(header.split(','))?;
    let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let found = found.select(&names)?;
    same_columns(&columns, &found)?;
    let days = digests(&found)?;
    for line in lines.skip(1) {
        let [day, rows, digest] = line.split(',').collect::<Vec<_>>()[..] else {
            bail!("`{line}` is no digest of a day")
        };
        let (found_rows, found_digest) = days.get(day).with_context(|| format!("no row of {day}"))?;
        ensure!(rows == found_rows.to_string(), "{found_rows} rows of {day} instead of {rows}");
        ensure!(digest == found_digest.0, "the {rows} rows of {day} differ from the pinned ones");
    }
    let expected_days = pinned.lines().count() - 2;
    ensure!(days.len() == expected_days, "rows of {} days instead of {expected_days}", days.len());
    Ok(())
}

/// Number and digest of the rows of each day, over their lines in order of text.
fn digests(rows: &Rows) -> Result<BTreeMap<String, (usize, Digest)>> {
    let time = rows.columns.iter().position(|(name, _)| name == "scheduled").context("no column `scheduled`")?;
    let mut days: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for row in &rows.rows {
        let micros: i64 = row[time].parse()?;
        days.entry(micros.div_euclid(MICROS_PER_DAY)).or_default().push(row.join("\u{1f}") + "\n");
    }
    let digests = days.into_iter().map(|(day, mut lines)| {
        lines.sort();
        (date(day), (lines.len(), Digest::of(lines.concat().as_bytes())))
    });
    Ok(digests.collect())
}

/// The date of a day since 1970, by Howard Hinnant's `civil_from_days`.
fn date(day: i64) -> String {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}")
}

fn read_pinned(path: &Path) -> Result<Rows> {
    let mut text = String::new();
    GzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
    let mut lines = text.lines();
    let columns = parse_header(lines.next().context("no header")?.split(','))?;
    let rows = lines.map(|line| line.split('\u{1f}').map(str::to_owned).collect());
    Ok(Rows { columns, rows: rows.collect() })
}

fn parse_header<'a>(columns: impl Iterator<Item = &'a str>) -> Result<Vec<(String, Kind)>> {
    columns
        .map(|column| {
            let (name, kind) = column.split_once(':').with_context(|| format!("`{column}` is no column"))?;
            Ok((name.to_owned(), Kind::parse(kind)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flights;

    /// What the example must hold, as if it had been read from files, after `change`.
    fn compare_after(set: &str, change: impl FnOnce(&mut Rows)) -> Result<()> {
        let pinned = Flights::example()?.pinned;
        let mut rows = read_pinned(&pinned.folder.join(format!("{set}.csv.gz")))?;
        rows.rows.reverse();
        change(&mut rows);
        pinned.compare(set, &rows)
    }

    fn differs(change: impl FnOnce(&mut Rows)) {
        assert!(compare_after("carrier_punctuality", change).is_err());
    }

    #[test]
    fn the_pinned_rows_are_what_they_are_in_any_order() {
        for set in crate::SETS {
            compare_after(set, |_| {}).unwrap();
        }
    }

    #[test]
    fn the_last_digit_of_a_float_may_differ_and_no_more() {
        let nudge = |rows: &mut Rows, by: f64| {
            let delay = rows.rows[0][5].parse::<f64>().unwrap() * by;
            rows.rows[0][5] = format!("{delay:?}");
        };
        compare_after("carrier_punctuality", |rows| nudge(rows, 1. + 1e-14)).unwrap();
        differs(|rows| nudge(rows, 1. + 1e-9));
    }

    #[test]
    fn a_changed_missing_or_doubled_row_and_a_missing_column_are_found() {
        differs(|rows| rows.rows[7][3] = "12345".to_owned());
        differs(|rows| rows.rows[7][1] = "\\N".to_owned());
        differs(|rows| drop(rows.rows.pop()));
        differs(|rows| rows.rows.push(rows.rows[0].clone()));
        differs(|rows| rows.columns[2].0 = "day".to_owned());
        differs(|rows| rows.columns[3].1 = Kind::String);
    }

    #[test]
    fn digests_find_a_changed_and_a_missing_row() {
        let columns = vec![("scheduled".to_owned(), Kind::Timestamp), ("flight".to_owned(), Kind::Int)];
        let row = |micros: &str, flight: &str| vec![micros.to_owned(), flight.to_owned()];
        let rows = Rows { columns, rows: vec![row("1362096000000000", "7"), row("1362182399999999", "8")] };
        let days = digests(&rows).unwrap();
        assert_eq!(days.keys().collect::<Vec<_>>(), ["2013-03-01"]);
        let pinned =
            format!("# scheduled:timestamp,flight:int\nday,rows,blake3\n2013-03-01,2,{}\n", days["2013-03-01"].1);
        same_digests(&pinned, &rows).unwrap();
        let mut changed = rows.clone();
        changed.rows[1][1] = "9".to_owned();
        assert!(same_digests(&pinned, &changed).is_err());
        changed.rows.pop();
        assert!(same_digests(&pinned, &changed).is_err());
    }

    #[test]
    fn days_are_dates() {
        for (day, expected) in
            [(0, "1970-01-01"), (15_706, "2013-01-01"), (15_765, "2013-03-01"), (11_016, "2000-02-29")]
        {
            assert_eq!(date(day), expected);
        }
    }
}
