//! Which queries append, and why the others do not.

use super::{FLIGHTS, planned};
use crate::{LedgerShape, SetKind};

fn set(query: &str) -> String {
    format!("{FLIGHTS} CREATE FEATURE SET s WITH (path = 'x') AS {query};")
}

#[track_caller]
fn appends(query: &str) {
    let plan = planned(&set(query));
    let planned = plan.set("s").unwrap();
    assert_eq!((planned.kind, planned.reasons.as_slice()), (SetKind::Append, &[][..]), "{query}");
}

#[track_caller]
fn is_snapshot(query: &str, reason: &str) {
    let plan = planned(&set(query));
    let planned = plan.set("s").unwrap();
    assert_eq!(planned.kind, SetKind::Snapshot, "{query}");
    assert!(planned.reasons.iter().any(|found| found.text.contains(reason)), "{query}: {:?}", planned.reasons);
    assert_eq!(planned.ledger, LedgerShape::Stateful);
}

#[test]
fn stateless_queries_append() {
    appends("SELECT * FROM flights");
    appends("SELECT id, delay > 15 AS late FROM flights WHERE distance > 100");
    appends("WITH f AS (SELECT * FROM flights) SELECT f.id FROM f WHERE f.delay IS NOT NULL");
    appends("SELECT id FROM flights WHERE delay > 1 UNION ALL SELECT id FROM flights WHERE delay < 0");
    appends("SELECT id, unnest(tags) AS tag FROM flights");
}

#[test]
fn lookups_of_tables_append() {
    appends("SELECT f.id, p.seats FROM flights f JOIN planes p ON f.carrier = p.carrier");
    appends("SELECT f.id, p.seats FROM flights f LEFT JOIN planes p ON f.carrier = p.carrier");
    appends("SELECT f.id, p.seats FROM planes p RIGHT JOIN flights f ON f.carrier = p.carrier");
    appends("SELECT f.id FROM flights f LEFT SEMI JOIN planes p ON f.carrier = p.carrier");
    appends("SELECT f.id FROM flights f WHERE f.carrier IN (SELECT carrier FROM planes)");
    appends("SELECT f.id FROM flights f WHERE NOT EXISTS (SELECT 1 FROM planes p WHERE p.carrier = f.carrier)");
    appends("SELECT f.id, (SELECT max(seats) FROM planes) AS most FROM flights f");
    appends("SELECT f.id, (SELECT max(seats) FROM planes p WHERE p.carrier = f.carrier) AS most FROM flights f");
    appends(
        "SELECT f.id, c.n FROM flights f
         JOIN (SELECT carrier, count(*) AS n FROM planes GROUP BY carrier) c ON c.carrier = f.carrier",
    );
    appends("SELECT f.id, p.seats FROM flights f CROSS JOIN planes p");
    appends(
        "SELECT f.id, l.seats FROM flights f
         CROSS JOIN LATERAL (SELECT p.seats FROM planes p WHERE p.carrier = f.carrier) l",
    );
    appends(
        "WITH RECURSIVE flights_of (n, seats) AS (
           SELECT 1, seats FROM planes UNION ALL SELECT n + 1, seats FROM flights_of WHERE n < 3)
         SELECT f.id, o.n FROM flights f JOIN flights_of o ON o.seats = f.distance",
    );
}

#[test]
fn what_has_no_final_rows_is_a_snapshot() {
    is_snapshot("SELECT carrier, count(*) AS n FROM flights GROUP BY carrier", "`GROUP BY` or an aggregate");
    is_snapshot("SELECT max(delay) AS most FROM flights", "aggregate over source `flights`");
    is_snapshot("SELECT DISTINCT carrier FROM flights", "`DISTINCT` over source `flights`");
    is_snapshot("SELECT id FROM flights UNION SELECT distance FROM flights", "`UNION` without `ALL`");
    is_snapshot("SELECT id, row_number() OVER (ORDER BY id) AS n FROM flights", "window function");
    is_snapshot("SELECT f.id FROM flights f JOIN weather w ON f.origin = w.origin", "`flights` with source `weather`");
    is_snapshot("SELECT p.seats, f.id FROM planes p LEFT JOIN flights f ON f.carrier = p.carrier", "`LEFT` join");
    is_snapshot("SELECT p.seats, f.id FROM flights f FULL JOIN planes p ON f.carrier = p.carrier", "`FULL` join");
    is_snapshot("SELECT id FROM flights UNION ALL SELECT seats FROM planes", "with rows of a table");
    is_snapshot("SELECT seats FROM planes WHERE carrier IN (SELECT carrier FROM flights)", "a subquery");
    is_snapshot("SELECT id FROM flights WHERE delay > (SELECT avg(delay) FROM flights)", "a subquery");
    is_snapshot("SELECT seats FROM planes", "no source");
    is_snapshot(
        "SELECT p.seats, l.id FROM planes p
         CROSS JOIN LATERAL (SELECT f.id FROM flights f WHERE f.carrier = p.carrier) l",
        "a lateral subquery over source `flights`",
    );
    is_snapshot("SELECT id, delay FROM flights EXCEPT SELECT distance, wind FROM flights, weather", "");
}

#[test]
fn a_step_of_a_recursion_is_no_source_of_its_name() {
    let plan = planned(&set(
        "WITH RECURSIVE flights AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM flights WHERE n < 3) SELECT n FROM flights",
    ));
    let planned = plan.set("s").unwrap();
    assert_eq!((planned.kind, planned.sources.len(), planned.tables.len()), (SetKind::Snapshot, 0, 0));
}

#[test]
fn scans_and_expansion_are_told() {
    let plan = planned(&set("SELECT f.id FROM flights f JOIN planes p ON f.carrier = p.carrier
         UNION ALL SELECT id FROM flights"));
    let planned = plan.set("s").unwrap();
    assert_eq!(planned.sources.get("flights"), Some(&2));
    assert_eq!(planned.tables.get("planes"), Some(&1));
    assert_eq!(planned.ledger, LedgerShape::Stateless { can_expand: true });
    let plan = self::planned(&set("SELECT id FROM flights WHERE delay > 1"));
    assert_eq!(plan.set("s").unwrap().ledger, LedgerShape::Stateless { can_expand: false });
}

#[test]
fn the_reason_has_its_place() {
    let text = format!(
        "{FLIGHTS}
CREATE VIEW daily AS
SELECT carrier, count(*) AS n FROM flights GROUP BY carrier;
CREATE FEATURE SET s WITH (path = 'x') AS SELECT * FROM daily;"
    );
    let plan = planned(&text);
    let span = plan.set("s").unwrap().reasons[0].span;
    let line = text.lines().nth(span.start.line as usize - 1).unwrap();
    assert!(line[span.start.column as usize - 1..].starts_with("carrier;"), "{line} {span:?}");
}

#[test]
fn the_digest_changes_with_the_query_only() {
    let digest = |query: &str| planned(&set(query)).set("s").unwrap().plan_digest.clone();
    let one = digest("SELECT id FROM flights WHERE delay > 15");
    assert_eq!(one, digest("SELECT id -- as a comment\n FROM flights\nWHERE (delay > 15)"));
    assert_ne!(one, digest("SELECT id FROM flights WHERE delay > 16"));
    assert_ne!(one, digest("SELECT id FROM flights"));
}

#[test]
fn the_digest_changes_with_what_the_engine_does_not_show() {
    let digest = |query: &str| planned(&set(query)).set("s").unwrap().plan_digest.clone();
    let differ = |left: &str, right: &str| {
        assert_ne!(digest(left), digest(right), "{left} and {right}");
        assert_eq!(digest(left), digest(left));
    };
    differ(
        "SELECT column1 AS n FROM (VALUES (1), (2), (3), (4), (5), (6))",
        "SELECT column1 AS n FROM (VALUES (1), (2), (3), (4), (5), (7))",
    );
    differ("SELECT value AS n FROM generate_series(1, 3)", "SELECT value AS n FROM generate_series(1, 4)");
    differ(
        "SELECT f.id FROM flights f WHERE f.distance IN (SELECT value FROM generate_series(1, 3))",
        "SELECT f.id FROM flights f WHERE f.distance IN (SELECT value FROM range(1, 3))",
    );
    differ(
        "SELECT carrier FROM flights INTERSECT SELECT carrier FROM planes",
        "SELECT DISTINCT f.carrier FROM flights f LEFT SEMI JOIN planes p ON f.carrier = p.carrier",
    );
    let of_view = |end: i64| {
        let text = format!(
            "{FLIGHTS} CREATE VIEW numbers AS SELECT value FROM generate_series(1, {end});
             CREATE FEATURE SET s WITH (path = 'x') AS SELECT f.id FROM flights f JOIN numbers n ON n.value = f.id;"
        );
        planned(&text).set("s").unwrap().plan_digest.clone()
    };
    assert_ne!(of_view(3), of_view(4));
}
