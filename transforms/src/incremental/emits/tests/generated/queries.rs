//! Queries that are put together at random, of all that may be released.
//!
//! They read two sources, `events (k VARCHAR, n BIGINT, at TIMESTAMP)` and `more`, which has `twice BIGINT`, too, and the
//! table `names (k VARCHAR, label VARCHAR)`. Every part gives rows with a key `k`, a number `n` and a time `at`, and so does
//! what is made of it.

use std::str::FromStr;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Aggregates that are the same for any order of rows.
pub(super) const OF_ANY_ORDER: &[&str] = &[
    "count(*)",
    "sum(n)",
    "min(n)",
    "max(n)",
    "count(DISTINCT n)",
    "sum(n) FILTER (WHERE n > 2)",
    "CAST(median(n) AS BIGINT)",
    "first_value(n ORDER BY at DESC, n)",
    "first_value(n ORDER BY at, n)",
    "cardinality(array_agg(DISTINCT n))",
];

/// A query, and whether it takes rows of the sources one by one.
#[derive(Debug, Clone)]
struct Part {
    query: String,
    is_plain: bool,
    /// Whether its last row of a key can be looked for.
    has_last: bool,
}

fn plain(query: impl Into<String>) -> Part {
    Part { query: query.into(), is_plain: true, has_last: true }
}

/// Rows of the sources.
fn source() -> impl Strategy<Value = Part> {
    let one = prop_oneof![
        Just("SELECT k, n, at FROM events".to_owned()),
        Just("SELECT k, twice AS n, at FROM more".to_owned()),
        (0..7).prop_map(|n| format!("SELECT k, n, at FROM events WHERE n <> {n}")),
        (1..4).prop_map(|h| format!("SELECT k, n + {h} AS n, at - INTERVAL '{h} hours' AS at FROM more WHERE n > 1")),
    ];
    let one = one.prop_map(plain).boxed();
    prop_oneof![
        3 => one.clone(),
        1 => (one.clone(), one.clone())
            .prop_map(|(a, b)| plain(format!("SELECT * FROM ({} UNION ALL {}) u", a.query, b.query))),
        1 => one.prop_map(|a| plain(format!(
            "SELECT coalesce(t.label, 'none') AS k, e.n, e.at FROM ({}) e LEFT JOIN names t ON e.k = t.k",
            a.query
        ))),
    ]
}

/// Aggregates over a frame that do not ask which of two rows of one time is first.
fn over() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "count(*)",
        "sum(n)",
        "min(n)",
        "max(n)",
        "CAST(round(avg(n / 3.0) OVER w * 1e6) AS BIGINT) + count(*)",
    ])
}

fn window() -> impl Strategy<Value = String> {
    prop_oneof![
        (1..7).prop_map(|h| format!("TUMBLE(($), at, INTERVAL '{h} hours')")),
        (1..3, 1..4)
            .prop_map(|(h, times)| format!("HOP(($), at, INTERVAL '{h} hours', INTERVAL '{} hours')", h * times)),
        (1..3, 1..4)
            .prop_map(|(h, times)| format!("CUMULATE(($), at, INTERVAL '{h} hours', INTERVAL '{} hours')", h * times)),
    ]
}

/// What is made of one part.
fn of_one(part: Part, aggregates: &'static [&'static str]) -> BoxedStrategy<Part> {
    let stateful = |query: String| Part { query, is_plain: false, has_last: false };
    let Part { query, is_plain, .. } = part;
    let of = {
        let query = query.clone();
        move |text: &str| text.replace('$', &query)
    };
    let mut made = vec![
        (prop::sample::select(aggregates), window(), prop::bool::ANY)
            .prop_map({
                let of = of.clone();
                move |(f, w, is_keyed)| {
                    let key = if is_keyed { "k" } else { "'all'" };
                    stateful(of(&format!(
                        "SELECT {key} AS k, {f} AS n, window_end AS at FROM {w} GROUP BY {key}, window_start, window_end"
                    )))
                }
            })
            .boxed(),
        (prop::sample::select(aggregates), prop::sample::select(vec!["date_trunc('hour', at)", "date_bin(INTERVAL '5 hours', at)"]))
            .prop_map({
                let of = of.clone();
                move |(f, by)| {
                    stateful(of(&format!("SELECT k, {f} AS n, {by} AS at FROM ($) g GROUP BY k, {by} HAVING count(*) > 0")))
                }
            })
            .boxed(),
        (over(), 0..8_i64, -2..3_i64, prop::bool::ANY)
            .prop_map({
                let of = of.clone();
                move |(f, back, ahead, is_keyed)| {
                    let end = match ahead {
                        0 => "CURRENT ROW".to_owned(),
                        1.. => format!("INTERVAL '{ahead} hours' FOLLOWING"),
                        _ => format!("INTERVAL '{} hours' PRECEDING", -ahead),
                    };
                    let back = back.max(-ahead);
                    let keys = if is_keyed { "PARTITION BY k" } else { "" };
                    let query = of(&format!(
                        "SELECT k, {f} OVER w AS n, at FROM ($) o WINDOW w AS ({keys} ORDER BY at RANGE BETWEEN \
                         INTERVAL '{back} hours' PRECEDING AND {end})"
                    ));
                    Part { query, is_plain: false, has_last: is_plain && is_keyed }
                }
            })
            .boxed(),
        Just(stateful(of("SELECT DISTINCT k, n, at FROM ($) d"))).boxed(),
        (1..3)
            .prop_map({
                let of = of.clone();
                move |best| {
                    stateful(of(&format!(
                        "SELECT k, n, at FROM (SELECT *, row_number() OVER (PARTITION BY at ORDER BY n DESC, k) AS r FROM ($) b) t \
                         WHERE r <= {best}"
                    )))
                }
            })
            .boxed(),
        (1..6)
            .prop_map({
                let of = of.clone();
                move |hours| {
                    stateful(of(&format!(
                        "SELECT k, n, at FROM (SELECT *, count(*) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL \
                         '{hours} hours' PRECEDING AND INTERVAL '1 microsecond' PRECEDING) AS c FROM ($) b) t WHERE c = 0"
                    )))
                }
            })
            .boxed(),
        (0..5).prop_map({
            let of = of.clone();
            move |n| {
                let query = of(&format!("SELECT k, n, at FROM ($) f WHERE n > {n}"));
                Part { query, is_plain, has_last: is_plain }
            }
        })
        .boxed(),
    ];
    if is_plain {
        made.extend(of_rows(&query, aggregates));
    }
    prop::strategy::Union::new(made).boxed()
}

/// What is made only of rows of the sources.
fn of_rows(query: &str, aggregates: &'static [&'static str]) -> [BoxedStrategy<Part>; 2] {
    let sessions = format!("SESSION(({query}) PARTITION BY k, at, INTERVAL '$ hours')");
    let sessions = (prop::sample::select(aggregates), 1..5_u8).prop_map(move |(f, gap)| {
        let sessions = sessions.replace('$', &gap.to_string());
        let query =
            format!("SELECT k, {f} AS n, window_end AS at FROM {sessions} GROUP BY k, window_start, window_end");
        Part { query, is_plain: false, has_last: false }
    });
    let rows = format!("({query})");
    let rows = (1..4_u8).prop_map(move |before| {
        let query = format!(
            "SELECT k, coalesce(lag(n, {before}) OVER o, -1) * 100 + sum(n) OVER (PARTITION BY k ORDER BY at, n ROWS \
             BETWEEN {before} PRECEDING AND CURRENT ROW) AS n, at FROM {rows} b WINDOW o AS (PARTITION BY k ORDER BY at, n)"
        );
        Part { query, is_plain: false, has_last: true }
    });
    [sessions.boxed(), rows.boxed()]
}

/// What is made of two parts.
fn of_two(a: Part, b: Part) -> BoxedStrategy<Part> {
    let is_plain = a.is_plain && b.is_plain;
    let (left, right) = (a.query, b.query);
    let made = |query: String| Part { query, is_plain: false, has_last: false };
    let kinds = vec!["JOIN", "LEFT JOIN", "RIGHT JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN", "FULL JOIN"];
    let joined = (prop::sample::select(kinds), 0..5, 0..4).prop_map({
        let (left, right) = (left.clone(), right.clone());
        move |(kind, back, ahead)| {
            let (columns, at) = match kind {
                "LEFT SEMI JOIN" | "LEFT ANTI JOIN" => ("l.k, l.n", "l.at"),
                "FULL JOIN" => {
                    ("coalesce(l.k, r.k) AS k, coalesce(l.n, 0) * 10 + coalesce(r.n, 0) AS n", "coalesce(l.at, r.at)")
                }
                "RIGHT JOIN" => ("r.k, r.n * 10 + coalesce(l.n, 0) AS n", "r.at"),
                _ => ("l.k, l.n * 10 + coalesce(r.n, 0) AS n", "l.at"),
            };
            made(format!(
                "SELECT {columns}, {at} AS at FROM ({left}) l {kind} ({right}) r ON l.k = r.k AND r.at BETWEEN \
                 l.at - INTERVAL '{back} hours' AND l.at + INTERVAL '{ahead} hours'"
            ))
        }
    });
    let union = format!("SELECT * FROM ({left} UNION ALL {right}) u");
    let union = Just(Part { query: union, is_plain, has_last: is_plain });
    let mut all = vec![joined.boxed(), union.boxed()];
    if b.has_last {
        let asof = prop::sample::select(vec![("ASOF JOIN", ">="), ("ASOF LEFT JOIN", ">="), ("ASOF JOIN", ">")]);
        all.push(
            asof.prop_map(move |(join, compare)| {
                made(format!(
                    "SELECT l.k, l.n * 10 + coalesce(r.n, 0) AS n, l.at FROM ({left}) l {join} ({right}) r \
                     MATCH_CONDITION (l.at {compare} r.at) ON l.k = r.k"
                ))
            })
            .boxed(),
        );
    }
    prop::strategy::Union::new(all).boxed()
}

/// A query that keeps something, of such aggregates.
pub(super) fn queries(aggregates: &'static [&'static str]) -> BoxedStrategy<String> {
    source()
        .boxed()
        .prop_recursive(3, 6, 2, move |part| {
            prop_oneof![
                3 => part.clone().prop_flat_map(move |part| of_one(part, aggregates)),
                2 => (part.clone(), part).prop_flat_map(|(a, b)| of_two(a, b)),
            ]
        })
        .prop_filter("it takes rows one by one", |part| !part.is_plain)
        .prop_flat_map(|part| {
            let all = Just(part.query.clone());
            let best = (1..5).prop_map(move |hours| {
                format!(
                    "SELECT DISTINCT ON (k, window_end) k, n, window_end AS at FROM TUMBLE(({}), at, INTERVAL '{hours} hours') \
                     ORDER BY k, window_end, n DESC, at",
                    part.query
                )
            });
            prop_oneof![6 => all, 1 => best]
        })
        .boxed()
}

/// A number that is asked for from outside, for a longer run or another one.
#[expect(clippy::disallowed_methods, reason = "a test may be asked for more cases")]
fn asked<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

/// The same cases each time: `cases` of them, unless another number is asked for by `name`.
pub(super) fn config(name: &str, cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: asked(name).unwrap_or(cases),
        rng_seed: RngSeed::Fixed(asked("BESSEMER_QUERIES_SEED").unwrap_or(0)),
        max_shrink_iters: 256,
        ..ProptestConfig::default()
    }
}
