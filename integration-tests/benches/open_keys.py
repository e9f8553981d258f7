"""What an epoch costs while many windows are open: the same new rows beside 100 thousand and beside 10 million open keys.

    cargo build --release --workspace --bins
    python integration-tests/benches/open_keys.py
    python integration-tests/benches/open_keys.py --keys 100000 1000000 --epochs 8

Needs `pip install duckdb==2.0.0`, which makes the rows. A set counts by key over windows of a day, none of which closes.
Its state is filled with every key once; then `--epochs` files come with `--new-rows` rows each of the same hundred thousand keys,
spread over all, and one run takes them in an epoch each. A run that finds nothing is what opening the pipeline costs, the check of its state
included; that is taken off, and what is left is shared among the epochs. Merges of the state are in it.
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
CREATE FEATURE SET days EMIT ON WINDOW CLOSE WITH (path = 'features/days')
AS SELECT key, window_end, count(*) AS events, sum(value) AS total
FROM TUMBLE(events, at, INTERVAL '1 day') GROUP BY key, window_end;
"""


# Keys that have new rows: as many beside few open ones as beside many.
ACTIVE = 100_000


class Bench:
    def __init__(self, options, keys):
        self.options, self.keys = options, keys
        self.folder = pathlib.Path(options.work) / f"open-keys-{keys}"
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "in").mkdir(parents=True)
        (self.folder / "pipeline.sql").write_text(SQL)

    def deliver(self, name, rows, key):
        """A file of rows of one quarter of an hour."""
        at = "TIMESTAMP '2013-01-01 06:00:00' + to_microseconds((i * 7919) % 1000000000)"
        duckdb.sql(f"""COPY (SELECT {key} AS key, (hash(i) % 100000) / 7.0 AS value, {at} AS at FROM range({rows}) t(i))
            TO '{self.folder}/in/{name}.parquet' (FORMAT parquet, ROW_GROUP_SIZE 262144)""")

    def run(self):
        return measure([self.options.bessemer, "run", self.folder])

    def state(self):
        said = subprocess.run([self.options.bessemer, "state", self.folder, "--json"], check=True, capture_output=True)
        return json.loads(said.stdout)[0]

    def measure(self):
        options = self.options
        self.deliver("0", self.keys, "i")
        fill = self.run()
        for epoch in range(1, options.epochs + 1):
            self.deliver(str(epoch), options.new_rows, f"(hash(i + {epoch * options.new_rows}) % {ACTIVE})::BIGINT * {self.keys // ACTIVE}")
        run = self.run()
        opened = min(self.run() for _ in range(3))
        wall, cpu = ((run[at] - opened[at]) / options.epochs for at in (0, 1))
        state = self.state()
        figures = {"keys": self.keys, "epoch_wall_s": wall, "epoch_cpu_s": cpu, "peak_mib": run[2], "open_wall_s": opened[0],
                   "open_cpu_s": opened[1], "fill_wall_s": fill[0], "fill_cpu_s": fill[1], "fill_peak_mib": fill[2],
                   "state_rows": state["groups"], "state_mib": state["bytes"] / 2**20, "segments": state.get("segments")}
        print(f"{self.keys:>12,}{wall:>10.3f}{cpu:>10.3f}{run[2]:>10.0f}{opened[0]:>10.2f}{opened[1]:>10.2f}{fill[0]:>10.2f}"
              f"{fill[1]:>10.2f}{fill[2]:>10.0f}{figures['state_mib']:>10.1f}{state['groups']:>14,}", flush=True)
        return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--keys", type=int, nargs="*", default=[100_000, 10_000_000])
    parser.add_argument("--epochs", type=int, default=32)
    parser.add_argument("--new-rows", type=int, default=200_000)
    parser.add_argument("--work", default="/tmp/bessemer-bench", help="folder for data and output")
    parser.add_argument("--bessemer", default=target / "release/bessemer")
    parser.add_argument("--json", help="write the figures here, too")
    options = parser.parse_args()
    if not pathlib.Path(options.bessemer).exists():
        sys.exit(f"{options.bessemer} is missing: cargo build --release --workspace --bins")
    print(f"{options.epochs} epochs of {options.new_rows:,} rows each")
    print(f"{'':>12}{'an epoch':>20}{'':>10}{'open the pipeline':>20}{'fill the state':>20}{'':>10}{'state':>10}")
    print(f"{'open keys':>12}{'wall s':>10}{'CPU s':>10}{'peak MiB':>10}{'wall s':>10}{'CPU s':>10}{'wall s':>10}{'CPU s':>10}"
          f"{'peak MiB':>10}{'MiB':>10}{'rows':>14}")
    figures = [Bench(options, keys).measure() for keys in options.keys]
    ratio = figures[-1]["epoch_cpu_s"] / figures[0]["epoch_cpu_s"]
    print(f"\nCPU of an epoch, the last against the first: {ratio:.2f}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
