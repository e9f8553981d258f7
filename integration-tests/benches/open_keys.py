"""What an epoch costs while much is open: the same new rows beside 100 thousand and beside 10 million open keys.

    cargo build --release --workspace --bins
    python integration-tests/benches/open_keys.py
    python integration-tests/benches/open_keys.py --keys 100000 1000000 --epochs 8 --sets rolling last

Needs `pip install duckdb==2.0.0`, which makes the rows. What is kept is filled with every key once, and the watermark passes
that; then files come with `--new-rows` rows each of the same hundred thousand keys, spread over all, two hours later each time, and
one run takes them in an epoch each. Of `windows`, which are of a year, none closes, nor does a `session`; of the other sets each
epoch emits the rows of the file before. A run of one epoch opens the pipeline, checks what is kept and takes it into memory: so
long it takes to recover. Then two runs are measured, the second with twice as many epochs: the difference is what epochs cost,
merges of what is kept included.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

import duckdb

from side_by_side import ROOT, measure

SQL = """CREATE PIPELINE keys; SET epoch_files = 1;
CREATE SOURCE events (key BIGINT NOT NULL, value DOUBLE, at TIMESTAMP NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '1 hour' ON LATE QUARANTINE) WITH (path = 'in/*.parquet', format = 'parquet');
CREATE FEATURE SET features EMIT ON WINDOW CLOSE WITH (path = 'features/features') AS """

BEFORE = "BETWEEN INTERVAL '300 days' PRECEDING AND CURRENT ROW"
SETS = {
    "windows": """SELECT key, window_end, count(*) AS events, sum(value) AS total
        FROM TUMBLE(events, at, INTERVAL '1 year') GROUP BY key, window_end""",
    "rolling": f"""SELECT key, at, count(*) OVER w AS events, sum(value) OVER w AS total
        FROM events WINDOW w AS (PARTITION BY key ORDER BY at RANGE {BEFORE})""",
    "last": "SELECT key, at, value, lag(value) OVER (PARTITION BY key ORDER BY at) AS before FROM events",
    "session": """SELECT key, window_end, count(*) AS events, sum(value) AS total
        FROM SESSION(events PARTITION BY key, at, INTERVAL '300 days') GROUP BY key, window_start, window_end""",
    "join": """SELECT l.key, l.at, l.value, r.value AS before FROM events l JOIN events r
        ON l.key = r.key AND r.at BETWEEN l.at - INTERVAL '300 days' AND l.at - INTERVAL '1 second'""",
    "asof": """SELECT l.key, l.at, l.value, r.value AS before
        FROM events l ASOF LEFT JOIN events r MATCH_CONDITION (l.at > r.at) ON l.key = r.key""",
}


# Keys that have new rows: as many beside few open ones as beside many.
ACTIVE = 100_000


class Bench:
    def __init__(self, options, name, keys):
        self.options, self.name, self.keys, self.files = options, name, keys, 0
        self.folder = pathlib.Path(options.work) / f"open-keys-{name}-{keys}"
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "in").mkdir(parents=True)
        (self.folder / "pipeline.sql").write_text(SQL + SETS[name] + ";")

    def deliver(self, rows, key):
        """A file of rows of one quarter of an hour."""
        begin = f"TIMESTAMP '2013-01-01 06:00:00' + to_hours({2 * self.files})"
        duckdb.sql(f"""COPY (SELECT {key} AS key, (hash(i) % 100000) / 7.0 AS value,
                {begin} + to_microseconds((i * 7919) % 1000000000) AS at FROM range({rows}) t(i))
            TO '{self.folder}/in/{self.files:04}.parquet' (FORMAT parquet, ROW_GROUP_SIZE 262144)""")
        self.files += 1

    def deliver_epochs(self, count):
        for _ in range(count):
            rows = self.options.new_rows
            self.deliver(rows, f"(hash(i + {self.files * rows}) % {ACTIVE})::BIGINT * {self.keys // ACTIVE}")

    def run(self):
        return measure([self.options.bessemer, "run", self.folder])

    def state(self):
        said = subprocess.run([self.options.bessemer, "state", self.folder, "--json"], check=True, capture_output=True)
        return json.loads(said.stdout)[0]

    def measure(self):
        epochs = self.options.epochs
        self.deliver(self.keys, "i")
        self.deliver_epochs(1)
        fill = self.run()
        self.deliver_epochs(1)
        one = self.run()
        self.deliver_epochs(epochs)
        short = self.run()
        self.deliver_epochs(2 * epochs)
        long = self.run()
        wall, cpu = ((long[at] - short[at]) / epochs for at in (0, 1))
        state = self.state()
        figures = {"set": self.name, "keys": self.keys, "epoch_wall_s": wall, "epoch_cpu_s": cpu, "peak_mib": long[2],
                   "one_epoch_wall_s": one[0], "one_epoch_cpu_s": one[1], "fill_wall_s": fill[0],
                   "fill_cpu_s": fill[1], "fill_peak_mib": fill[2], "state_rows": state.get("groups", state.get("rows")),
                   "state_mib": state["bytes"] / 2**20, "segments": state.get("segments")}
        print(f"{self.name:>8}{self.keys:>12,}{wall:>10.3f}{cpu:>10.3f}{long[2]:>10.0f}{one[0]:>10.2f}"
              f"{one[1]:>10.2f}{fill[0]:>10.2f}{fill[1]:>10.2f}{fill[2]:>10.0f}{figures['state_mib']:>10.1f}"
              f"{figures['state_rows']:>14,}", flush=True)
        return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--keys", type=int, nargs="*", default=[100_000, 10_000_000])
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--epochs", type=int, default=16, help="of the shorter run")
    parser.add_argument("--new-rows", type=int, default=20_000)
    parser.add_argument("--work", default="/tmp/bessemer-bench", help="folder for data and output")
    parser.add_argument("--bessemer", default=target / "release/bessemer")
    parser.add_argument("--json", help="write the figures here, too")
    options = parser.parse_args()
    if not pathlib.Path(options.bessemer).exists():
        sys.exit(f"{options.bessemer} is missing: cargo build --release --workspace --bins")
    print(f"{options.epochs} and {2 * options.epochs} epochs of {options.new_rows:,} rows each")
    print(f"{'':>20}{'an epoch':>20}{'':>10}{'a run of one epoch':>20}{'fill the state':>20}{'':>10}{'state':>10}")
    print(f"{'set':>8}{'open keys':>12}{'wall s':>10}{'CPU s':>10}{'peak MiB':>10}{'wall s':>10}{'CPU s':>10}{'wall s':>10}"
          f"{'CPU s':>10}{'peak MiB':>10}{'MiB':>10}{'rows':>14}")
    figures = []
    for name in options.sets:
        of_set = [Bench(options, name, keys).measure() for keys in options.keys]
        figures.extend(of_set)
        ratio = of_set[-1]["epoch_cpu_s"] / of_set[0]["epoch_cpu_s"]
        print(f"{name:>8} CPU of an epoch, the last against the first: {ratio:.2f}", flush=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
