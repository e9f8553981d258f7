"""Runs each query of Nexmark in DuckDB, and compares what `bessemer run` wrote with it.

    python integration-tests/nexmark/compare.py EVENTS FEATURES

`EVENTS` has the events as JSON lines, `FEATURES` a folder for each query. The queries are those in `duckdb/`, written by
hand. Rows must be equal, floating-point numbers within 1e-9, whatever their order.
"""

import math
import pathlib
import sys

import duckdb

QUERIES = pathlib.Path(__file__).parent / "duckdb"


def load(db, events):
    for name, times in {"person": ["date_time"], "auction": ["date_time", "expires"], "bid": ["date_time"]}.items():
        times = ", ".join(f"epoch_ms({time}) as {time}" for time in times)
        db.execute(f"create table {name} as select * replace ({times}) from read_ndjson('{events}/{name}-*.json')")
    db.execute(f"create table side_input as from read_csv('{events}/side_input.csv')")


def order(row):
    """Rows are paired by what must be equal, then by what may differ a little."""
    exact = [repr(value) for value in row if not isinstance(value, float)]
    return exact, [value for value in row if isinstance(value, float)]


def is_same(expected, found):
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(expected, found, rel_tol=1e-9)
    return expected == found


def compare(db, query, features):
    answer = db.execute((QUERIES / f"{query}.sql").read_text())
    columns = ", ".join(f'"{column}"' for column, *_ in answer.description)
    expected = sorted(answer.fetchall(), key=order)
    files = f"read_parquet('{features}/{query}/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)"
    found = sorted(db.execute(f"select {columns} from {files}").fetchall(), key=order)
    for rows in zip(expected, found):
        assert all(map(is_same, *rows)), f"({columns})\nexpected {rows[0]}\n   found {rows[1]}"
    assert len(expected) == len(found), f"{len(found)} rows instead of {len(expected)}"
    assert expected, "no row: the events show nothing of it"
    print(f"{query}: {len(found)} rows, the same in DuckDB")


def main(events, features):
    db = duckdb.connect()
    load(db, events)
    written = {folder.name for folder in pathlib.Path(features).iterdir()}
    queries = {path.stem for path in QUERIES.glob("*.sql")}
    wrong = [f"only one of both has {query}" for query in sorted(written ^ queries)]
    for query in sorted(written & queries, key=lambda name: (len(name), name)):
        try:
            compare(db, query, features)
        except Exception as problem:
            wrong.append(f"{query}: {type(problem).__name__}: {problem}")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main(*sys.argv[1:])
