"""Queries of Nexmark over files: Bessemer beside bare DataFusion and DuckDB, from one run, by CPU seconds.

    cargo build --release -p bessemer -p bessemer-integration-tests
    python integration-tests/benches/nexmark.py                            # q1, q3, q5, q7, q8 over 10 million events
    python integration-tests/benches/nexmark.py --events 1000000 --only q5

Needs `pip install duckdb==2.0.0`. Events are Parquet, and so are the answers, ZSTD 1. Bessemer runs the files in
`integration-tests/nexmark`, DuckDB those in its `duckdb/`, and DataFusion Bessemer's with windows spelt out. All must have
written the same number of rows. Measured as by `side_by_side.py`.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys

import duckdb

from side_by_side import DUCKDB, ROOT, Bench, python

NEXMARK = ROOT / "integration-tests/nexmark"
STREAMS = {"person": ["date_time"], "auction": ["date_time", "expires"], "bid": ["date_time"]}
PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"

TUMBLE = r"TABLE\(TUMBLE\(TABLE (\w+), DESCRIPTOR\(date_time\), (INTERVAL '\d+' SECOND)\)\)"
TUMBLE_SPELT_OUT = r"""(SELECT *, date_bin(\2, date_time) AS window_start, date_bin(\2, date_time) + \2 AS window_end FROM \1)"""
HOP = r"TABLE\(HOP\(TABLE (\w+), DESCRIPTOR\(date_time\), INTERVAL '2' SECOND, INTERVAL '10' SECOND\)\)"
HOP_SPELT_OUT = r"""(
    SELECT *, date_bin(INTERVAL '2' SECOND, date_time) - back AS window_start,
           date_bin(INTERVAL '2' SECOND, date_time) - back + INTERVAL '10' SECOND AS window_end
    FROM \1 CROSS JOIN (VALUES (INTERVAL '0' SECOND), (INTERVAL '2' SECOND), (INTERVAL '4' SECOND), (INTERVAL '6' SECOND),
                               (INTERVAL '8' SECOND)) AS earlier (back)
)"""


def bare_sql(query):
    """The query of a pipeline file as DataFusion knows it: no statement around it, and no windows in `FROM`."""
    text = (NEXMARK / f"{query}.sql").read_text()
    text = re.sub(r"CREATE VIEW (\w+) AS\n(.*?);", r"WITH \1 AS (\n\2\n)", text, flags=re.DOTALL)
    text = re.sub(r"CREATE FEATURE SET \w+ WITH \(.*\) AS\n", "", text)
    return re.sub(HOP, HOP_SPELT_OUT, re.sub(TUMBLE, TUMBLE_SPELT_OUT, text)).rstrip().rstrip(";")


class Nexmark(Bench):
    def events(self):
        """A folder of Parquet files for each stream."""
        count = self.options.events
        folder = self.work / f"nexmark-{count}"
        if not folder.exists():
            print(f"generating {count:,} events …", file=sys.stderr)
            part = pathlib.Path(f"{folder}.part")
            subprocess.run([self.generate, "nexmark", str(count), "8", part / "json"], check=True)
            for stream, times in STREAMS.items():
                (part / stream).mkdir()
                times = ", ".join(f"epoch_ms({time}) as {time}" for time in times)
                for path in sorted((part / "json").glob(f"{stream}-*.json")):
                    target = part / stream / f"{path.stem}.parquet"
                    duckdb.sql(f"COPY (SELECT * REPLACE ({times}) FROM read_ndjson('{path}')) TO '{target}' ({PARQUET})")
            shutil.rmtree(part / "json")
            part.rename(folder)
        return folder

    def bessemer_sql(self, query, events):
        sources = (NEXMARK / "files.sql").read_text()
        sources = re.sub(r"path = 'events/(\w+)-\*\.json'", rf"path = '{events}/\1/*.parquet'", sources)
        sources = sources.replace("format = 'json', timestamp_format = 'epoch_millis'", "format = 'parquet'")
        return sources + (NEXMARK / f"{query}.sql").read_text()

    def duckdb_sql(self, query, events, out):
        views = "".join(f"CREATE VIEW {stream} AS FROM read_parquet('{events}/{stream}/*.parquet');\n" for stream in STREAMS)
        return f"{views}COPY ({(NEXMARK / f'duckdb/{query}.sql').read_text()}) TO '{out}/answer.parquet' ({PARQUET})"

    def run(self, query):
        events = self.events()
        tables = [f"{stream}={events / stream}" for stream in STREAMS]
        contenders = [
            ("bessemer run", None, lambda: self.run_bessemer(self.bessemer_sql(query, events))),
            ("bare DataFusion", None, lambda: [self.bare, f"{self.fresh('bare')}/", bare_sql(query), *tables]),
            ("DuckDB COPY", "duckdb", lambda: python(DUCKDB, self.duckdb_sql(query, events, self.fresh("duckdb")))),
        ]
        self.contest(f"{query}: {self.options.events:,} events, Parquet to Parquet", contenders, "bare DataFusion", "1")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["q1", "q3", "q5", "q7", "q8"], action="append")
    parser.add_argument("--work", default="/tmp/bessemer-bench", help="folder for data and output")
    parser.add_argument("--bessemer", type=pathlib.Path)
    parser.add_argument("--generate", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here, too")
    options = parser.parse_args()
    pathlib.Path(options.work).mkdir(parents=True, exist_ok=True)
    bench = Nexmark(options)
    bench.build_bare()
    for query in options.only or ["q1", "q3", "q5", "q7", "q8"]:
        bench.run(query)
    if options.json:
        options.json.write_text(json.dumps(bench.results, indent=2))


if __name__ == "__main__":
    main()
