//! Queries that are put together at random, of all that may be released.
//!
//! They read two sources, `events (k VARCHAR, n BIGINT, at TIMESTAMP)` and `more`, which has `twice BIGINT`, too, and the
//! table `names (k VARCHAR, label VARCHAR)`. Every part gives rows with a key `k`, a number `n` and a time `at`, and so does
//! what is made of it: a form with the part in the place of `$`, or two in those of `$l` and `$r`. For each of the other
//! [`HOLES`] of a form one text is chosen. What is in braces is a view.

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
    "sum(DISTINCT n)",
    "sum(n) FILTER (WHERE n > 2)",
    "count(DISTINCT n) FILTER (WHERE k <> 'K1')",
    "median(n)",
    "first_value(n ORDER BY at DESC, n)",
    "first_value(n ORDER BY at, n)",
    "last_value(n ORDER BY n, at) FILTER (WHERE n <> 3)",
    "nth_value(n, 2 ORDER BY n, at)",
    "cardinality(array_agg(DISTINCT n))",
    "array_agg(n ORDER BY n DESC)[1] - count(n)",
    "length(string_agg(k, ',' ORDER BY k))",
    "CAST(bool_or(n > 3) AS INT) + approx_distinct(n)",
    "round(coalesce(stddev(n / 7.0), 0) * 1e6)",
];

/// What may stand in a hole, the plainest first. A text may have holes itself, of those that come later.
const HOLES: &[(&str, &[&str])] = &[
    (
        "[window]",
        &[
            "TUMBLE(($), at, INTERVAL '[hours]')",
            "TUMBLE(($), at, INTERVAL '4 hours', INTERVAL '1 hour')",
            "HOP(($), at, INTERVAL '1 hour', INTERVAL '[hours]')",
            "HOP(($), at, INTERVAL '2 hours', INTERVAL '5 hours')",
            "CUMULATE(($), at, INTERVAL '1 hour', INTERVAL '[hours]')",
            "CUMULATE(($), at, INTERVAL '2 hours', INTERVAL '6 hours')",
        ],
    ),
    (
        "[within]",
        &[
            "r.at = l.at",
            "r.at BETWEEN l.at - INTERVAL '[hours]' AND l.at + INTERVAL '1 hour'",
            "r.at BETWEEN l.at AND l.at + INTERVAL '[hours]'",
            "r.at >= l.at - INTERVAL '4 hours' AND r.at < l.at - INTERVAL '1 hour'",
            "l.at > r.at - INTERVAL '[hours]' AND l.at <= r.at + INTERVAL '2 hours'",
        ],
    ),
    (
        "[frame]",
        &[
            "RANGE BETWEEN INTERVAL '[hours]' PRECEDING AND CURRENT ROW",
            "RANGE BETWEEN CURRENT ROW AND CURRENT ROW",
            "RANGE BETWEEN INTERVAL '[hours]' PRECEDING AND INTERVAL '1 microsecond' PRECEDING",
            "RANGE BETWEEN INTERVAL '7 hours' PRECEDING AND INTERVAL '[hours]' PRECEDING",
            "RANGE BETWEEN INTERVAL '3 hours' PRECEDING AND INTERVAL '[hours]' FOLLOWING",
            "RANGE BETWEEN CURRENT ROW AND INTERVAL '[hours]' FOLLOWING",
            "RANGE BETWEEN INTERVAL '1 hour' FOLLOWING AND INTERVAL '[hours]' FOLLOWING",
        ],
    ),
    // Aggregates over a frame that do not ask which of two rows of one time is first.
    (
        "[over]",
        &["count(*)", "sum(n)", "min(n)", "max(n)", "CAST(round(avg(n / 3.0) OVER w * 1e6) AS BIGINT) + count(*)"],
    ),
    // Of all rows of a window.
    (
        "[within window]",
        &[
            "lead(n)",
            "lead(n, 2, -1)",
            "lag(n, 2, 0)",
            "row_number()",
            "rank()",
            "ntile(2)",
            "first_value(n)",
            "nth_value(n, 2)",
            "sum(n)",
            "100 * percent_rank() OVER w + dense_rank()",
        ],
    ),
    ("[having]", &["", "HAVING count(*) > 1", "HAVING sum(g.n) > 5", "HAVING max(g.n) > min(g.n) AND g.k <> 'K2'"]),
    ("[best]", &["= 1", "<= 2", "< 4"]),
    ("[bin]", &["at", "date_trunc('hour', at)", "date_bin(INTERVAL '5 hours', at)", "date_trunc('day', at)"]),
    ("[hours]", &["1 hour", "2 hours", "3 hours", "4 hours", "6 hours"]),
    ("[key]", &["k", "'all'"]),
    ("[number]", &["0", "1", "2", "3", "4"]),
    ("[rows]", &["1", "2", "3"]),
    ("[later]", &[">=", ">"]),
];

/// What a form gives.
#[derive(Debug, Clone, Copy)]
enum Gives {
    /// Rows that are made one by one, as its input's may be.
    Same,
    /// Rows of which the last one of a key can be looked for, where those of the input are made one by one.
    Last,
    Kept,
}
use Gives::{Kept, Last, Same};

/// Rows of the sources.
const SOURCES: &[&str] = &[
    "SELECT k, n, at FROM events",
    "SELECT k, twice AS n, at FROM more",
    "SELECT k, n, at FROM events WHERE n <> [number]",
    "SELECT k, n + [rows] AS n, at - INTERVAL '[hours]' AS at FROM more WHERE n > 1",
];

/// What is made of one part.
const OF_ONE: &[(Gives, &str)] = &[
    (Same, "SELECT k, n, at FROM ($) f WHERE n > [number]"),
    (Same, "SELECT k, n, at FROM {$}"),
    (Same, "SELECT coalesce(t.label, 'none') AS k, e.n, e.at FROM ($) e LEFT JOIN names t ON e.k = t.k"),
    (Same, "SELECT e.k, e.n, e.at FROM ($) e JOIN names t ON e.k = t.k AND t.label <> 'zero'"),
    (Same, "SELECT e.k, e.n, e.at FROM ($) e LEFT ANTI JOIN names t ON e.k = t.k"),
    (Same, "SELECT k, n, window_end AS at FROM [window]"),
    (Same, "SELECT k, unnest([n, n + 1]) AS n, at FROM ($) u"),
    (Same, "SELECT k, n * 10 + more AS n, at FROM (SELECT k, n, at, unnest(range(abs(n) % 3)) AS more FROM ($) u) u"),
    (Same, "SELECT unnest(string_to_array(k || ',all', ',')) AS k, n, at FROM ($) u"),
    (
        Kept,
        "SELECT [key] AS k, CAST([of] AS BIGINT) AS n, window_end AS at FROM [window] g GROUP BY g.k, window_start, window_end [having]",
    ),
    (
        Kept,
        "SELECT [key] AS k, CAST([of] AS BIGINT) AS n, window_end AS at FROM [window] GROUP BY [key], window_start, window_end",
    ),
    (Kept, "SELECT k, CAST([of] AS BIGINT) AS n, [bin] AS at FROM ($) g GROUP BY k, [bin] [having]"),
    (
        Kept,
        "SELECT k, unnest(l) AS n, at FROM (SELECT k, array_agg(n ORDER BY n DESC) AS l, window_end AS at FROM [window] g \
         GROUP BY k, window_start, window_end [having]) l",
    ),
    (Last, "SELECT k, [over] OVER w AS n, at FROM ($) o WINDOW w AS (PARTITION BY k ORDER BY at [frame])"),
    (Kept, "SELECT k, [over] OVER w AS n, at FROM ($) o WINDOW w AS (ORDER BY at DESC [frame])"),
    (
        Kept,
        "SELECT k, CAST([within window] OVER w AS BIGINT) AS n, at FROM ($) o WINDOW w AS (PARTITION BY k, [bin] ORDER BY at, n)",
    ),
    (
        Kept,
        "SELECT k, CAST([within window] OVER w AS BIGINT) AS n, at FROM [window] WINDOW w AS (PARTITION BY window_start, window_end \
         ORDER BY n DESC, k, at)",
    ),
    (
        Kept,
        "SELECT k, n, at FROM (SELECT *, row_number() OVER (PARTITION BY at ORDER BY n DESC, k) AS r FROM ($) b) t \
         WHERE r [best]",
    ),
    (
        Kept,
        "SELECT k, n, window_end AS at FROM [window] QUALIFY row_number() OVER (PARTITION BY k, window_start, window_end \
         ORDER BY n, at) [best]",
    ),
    (Kept, "SELECT k, n, at FROM ($) q QUALIFY rank() OVER (PARTITION BY k, [bin] ORDER BY n DESC) [best]"),
    (
        Kept,
        "SELECT k, n, at FROM (SELECT *, count(*) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '[hours]' \
         PRECEDING AND INTERVAL '1 microsecond' PRECEDING) AS c FROM ($) b) t WHERE c = 0",
    ),
    (Kept, "SELECT DISTINCT k, n, at FROM ($) d"),
    (
        Kept,
        "SELECT DISTINCT ON (k, window_end) k, n, window_end AS at FROM [window] ORDER BY k, window_end, n DESC, at",
    ),
    (Kept, "SELECT DISTINCT ON ([bin]) k, n, at FROM ($) d ORDER BY [bin], n, k, at"),
];

/// What is made only of rows of the sources.
const OF_ROWS: &[(Gives, &str)] = &[
    (
        Kept,
        "SELECT k, CAST([of] AS BIGINT) AS n, window_end AS at FROM SESSION(($) PARTITION BY k, at, INTERVAL '[hours]') g \
         GROUP BY k, window_start, window_end [having]",
    ),
    (
        Kept,
        "SELECT 'all' AS k, CAST([of] AS BIGINT) AS n, window_end AS at FROM SESSION(($), at, INTERVAL '[hours]') \
         GROUP BY window_start, window_end",
    ),
    (Kept, "SELECT k, n, window_end AS at FROM SESSION(($) PARTITION BY (k, n), at, INTERVAL '[hours]')"),
    (
        Last,
        "SELECT k, coalesce(lag(n, [rows]) OVER o, -1) * 100 + sum(n) OVER (PARTITION BY k ORDER BY at, n ROWS BETWEEN \
         [rows] PRECEDING AND CURRENT ROW) AS n, at FROM ($) b WINDOW o AS (PARTITION BY k ORDER BY at, n)",
    ),
    (
        Kept,
        "SELECT k, lag(n, [rows], -1) OVER (ORDER BY at, k, n) + count(*) OVER (ORDER BY at, k, n ROWS BETWEEN 3 PRECEDING \
         AND [rows] PRECEDING) AS n, at FROM ($) b",
    ),
];

/// What is made of two parts.
const OF_TWO: &[(Gives, &str)] = &[
    (Same, "SELECT * FROM (($l) UNION ALL ($r)) u"),
    (Kept, "SELECT l.k, l.n * 10 + r.n AS n, l.at FROM ($l) l JOIN ($r) r ON l.k = r.k AND [within]"),
    (Kept, "SELECT l.k, l.n * 10 + r.n AS n, r.at FROM ($l) l, ($r) r WHERE l.k = r.k AND [within] AND l.n <= r.n"),
    (Kept, "SELECT l.k, l.n * 10 + coalesce(r.n, 0) AS n, l.at FROM ($l) l LEFT JOIN ($r) r ON l.k = r.k AND [within]"),
    (
        Kept,
        "SELECT r.k, r.n * 10 + coalesce(l.n, 0) AS n, r.at FROM ($l) l RIGHT JOIN ($r) r ON l.k = r.k AND [within]",
    ),
    (Kept, "SELECT l.k, l.n, l.at FROM ($l) l LEFT SEMI JOIN ($r) r ON l.k = r.k AND [within]"),
    (Kept, "SELECT r.k, r.n, r.at FROM ($l) l RIGHT ANTI JOIN ($r) r ON l.n = r.n AND [within]"),
    (Kept, "SELECT l.k, l.n, l.at FROM ($l) l LEFT ANTI JOIN ($r) r ON l.k = r.k AND [within] AND l.n < r.n"),
    (
        Kept,
        "SELECT coalesce(l.k, r.k) AS k, coalesce(l.n, 0) * 10 + coalesce(r.n, 0) AS n, coalesce(l.at, r.at) AS at \
         FROM ($l) l FULL JOIN ($r) r ON l.k = r.k AND [within]",
    ),
    (
        Kept,
        "SELECT l.k, coalesce(l.n, -1) - coalesce(r.n, -1) AS n, coalesce(l.at, r.at) AS at FROM ($l) l FULL JOIN ($r) r USING (k, at)",
    ),
    (
        Kept,
        "SELECT l.k, l.n * 10 + coalesce(r.n, 0) AS n, l.window_end AS at FROM (SELECT k, window_end, CAST([of] AS BIGINT) AS n FROM \
         TUMBLE(($l), at, INTERVAL '[hours]') GROUP BY k, window_end) l LEFT JOIN (SELECT k, window_end, count(*) AS n \
         FROM HOP(($r), at, INTERVAL '1 hour', INTERVAL '[hours]') GROUP BY k, window_end) r \
         ON l.k = r.k AND l.window_end = r.window_end",
    ),
];

/// What is made of two parts, the right one with rows of which the last can be looked for.
const OF_LAST: &[(Gives, &str)] = &[
    (
        Kept,
        "SELECT l.k, l.n * 10 + r.n AS n, l.at FROM ($l) l ASOF JOIN ($r) r MATCH_CONDITION (l.at [later] r.at) \
         ON l.k = r.k",
    ),
    (
        Kept,
        "SELECT l.k, l.n * 10 + coalesce(r.n, 0) AS n, l.at FROM ($l) l ASOF LEFT JOIN ($r) r \
         MATCH_CONDITION (l.at [later] r.at) ON l.k = r.k",
    ),
];

#[derive(Debug, Clone)]
struct Part {
    query: String,
    /// Whether it takes rows of the sources one by one.
    is_plain: bool,
    /// Whether its last row of a key can be looked for.
    has_last: bool,
}

/// A form whose holes are filled, but for those of parts.
fn filled(form: &'static str, aggregates: &'static [&'static str]) -> impl Strategy<Value = String> {
    let holes = move || HOLES.iter().copied().chain([("[of]", aggregates)]);
    let texts: Vec<_> = holes().map(|(_, texts)| prop::sample::select(texts)).collect();
    texts.prop_map(move |texts| {
        holes().zip(texts).fold(form.to_owned(), |form, ((hole, _), text)| form.replace(hole, text))
    })
}

fn source(aggregates: &'static [&'static str]) -> impl Strategy<Value = Part> {
    let rows = prop::sample::select(SOURCES).prop_flat_map(move |form| filled(form, aggregates));
    rows.prop_map(|query| Part { query, is_plain: true, has_last: true })
}

fn of_one(part: Part, aggregates: &'static [&'static str]) -> impl Strategy<Value = Part> {
    let of_rows = if part.is_plain { OF_ROWS } else { &[] };
    let forms: Vec<_> = OF_ONE.iter().chain(of_rows).copied().collect();
    made(forms, part.is_plain, aggregates, move |form| form.replace('$', &part.query))
}

fn of_two(left: Part, right: Part, aggregates: &'static [&'static str]) -> impl Strategy<Value = Part> {
    let of_last = if right.has_last { OF_LAST } else { &[] };
    let forms: Vec<_> = OF_TWO.iter().chain(of_last).copied().collect();
    let is_plain = left.is_plain && right.is_plain;
    made(forms, is_plain, aggregates, move |form| form.replace("$l", &left.query).replace("$r", &right.query))
}

/// One of the `forms`, whose input takes rows one by one or not.
fn made(
    forms: Vec<(Gives, &'static str)>,
    is_plain: bool,
    aggregates: &'static [&'static str],
    of: impl Fn(&str) -> String + Clone + 'static,
) -> impl Strategy<Value = Part> {
    prop::sample::select(forms).prop_flat_map(move |(gives, form)| {
        let of = of.clone();
        filled(form, aggregates).prop_map(move |form| Part {
            query: of(&form),
            is_plain: is_plain && matches!(gives, Same),
            has_last: is_plain && matches!(gives, Same | Last),
        })
    })
}

/// A query that keeps something, of such aggregates.
pub(super) fn queries(aggregates: &'static [&'static str]) -> BoxedStrategy<String> {
    source(aggregates)
        .boxed()
        .prop_recursive(3, 10, 2, move |part| {
            prop_oneof![
                6 => part.clone().prop_flat_map(move |part| of_one(part, aggregates)),
                3 => (part.clone(), part.clone()).prop_flat_map(move |(left, right)| of_two(left, right, aggregates)),
                1 => part.prop_flat_map(move |part| of_two(part.clone(), part, aggregates)),
            ]
        })
        .prop_filter("it takes rows one by one", |part| !part.is_plain)
        .prop_map(|part| part.query)
        .boxed()
}

/// The views of `query` as statements, and the query that reads them.
pub(crate) fn with_views(query: &str) -> (String, String) {
    let (mut query, mut views) = (query.to_owned(), Vec::new());
    while let Some(end) = query.find('}') {
        let start = query[..end].rfind('{').unwrap();
        let view = query[start + 1..end].to_owned();
        let at = views.iter().position(|known| *known == view).unwrap_or(views.len());
        if at == views.len() {
            views.push(view);
        }
        query.replace_range(start..=end, &format!("view_{at}"));
    }
    let statements = views.iter().enumerate().map(|(at, view)| format!("CREATE VIEW view_{at} AS {view};\n"));
    (statements.collect::<Vec<_>>().concat(), query)
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
