"""Joins two feature sets in DuckDB as a pipeline joined them, and says where the rows differ.

    python integration-tests/readers/asof_join.py features
"""

import sys

import duckdb

JOINS = {
    "before": "asof left join weather w on f.origin = w.origin and f.scheduled > w.hour",
    "after": "asof join weather w on f.origin = w.origin and f.scheduled <= w.hour",
}


def main(features):
    db = duckdb.connect()
    for name in ("departures", "weather", *JOINS):
        db.execute(f"create view {name} as from read_parquet('{features}/{name}/**/*.parquet')")
    for name, join in JOINS.items():
        expected = f"select f.id, w.hour, w.temp from departures f {join}"
        found = f"select id, hour, temp from {name}"
        rows = db.execute(f"select count(*), count(temp) from {name}").fetchone()
        other = db.execute(
            f"select count(*) from ((({expected}) except all ({found})) union all (({found}) except all ({expected})))"
        ).fetchone()[0]
        assert rows[1] > 0 and other == 0, f"{name}: {other} rows differ, of {rows[0]}"
        print(f"{name}: {rows[0]} rows, {rows[1]} with a temperature, as in DuckDB")


if __name__ == "__main__":
    main(*sys.argv[1:])
