"""Bessemer beside DuckDB, Polars and bare DataFusion, from one run: wall time, CPU seconds, peak memory.

    cargo build --release -p bessemer -p bessemer-integration-tests
    python integration-tests/benches/side_by_side.py                       # 5 million rows
    python integration-tests/benches/side_by_side.py --rows 5000000 --large-rows 50000000 --only memory

Needs `pip install duckdb==2.0.0 polars==2.1.0`. Builds `bare-datafusion` with the workspace's own release profile. Every
contender is a process of its own, run in turn `--repeat` times; the fastest of its runs by CPU counts, and the highest of its peaks. Of DuckDB and
Polars the CPU time of starting Python and importing them is measured and taken off.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

GROUP_BY = """SELECT region, product, date_trunc('month', ordered_at) AS ordered_month, count(*) AS orders,
sum(quantity) AS items, sum(quantity * price * (1 - coalesce(discount, 0))) AS revenue, max(price) AS max_price
FROM {table} WHERE status <> 'returned' AND quantity > 2 GROUP BY region, product, date_trunc('month', ordered_at)"""

PROJECT = """SELECT order_id, customer_id, product, region, quantity, quantity * price AS revenue, ordered_at
FROM {table} WHERE quantity > 2"""

EVENT_COLUMNS = {
    "id": "BIGINT", "user": "VARCHAR", "kind": "VARCHAR", "value": "DOUBLE", "is_new": "BOOLEAN", "visit": "INT",
    "at": "TIMESTAMPTZ",
}

# Twenty rules of the kinds that people write: ranges, nulls, sets, patterns, two columns at once.
CONSTRAINTS = [
    "order_id >= 0", "customer_id >= 0", "customer_id < 1000000", "quantity > 0", "quantity < 20", "revenue >= 0",
    "revenue < 100000", "revenue IS NOT NULL", "product IS NOT NULL", "product LIKE 'product-%'",
    "region IN ('north', 'south', 'east', 'west', 'centre', 'coast', 'island', 'abroad')", "region <> ''",
    "length(product) = 12", "length(region) < 10", "ordered_at >= TIMESTAMP '2013-01-01 00:00:00'",
    "ordered_at < TIMESTAMP '2014-01-01 00:00:00'", "ordered_at IS NOT NULL", "revenue >= quantity",
    "order_id IS NOT NULL AND customer_id IS NOT NULL", "quantity * 1000.0 >= revenue",
]


def measure(command, env=None):
    """Runs a command to its end: (wall seconds, CPU seconds, peak MiB)."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    if status:
        sys.exit(f"{command}\nended with {os.waitstatus_to_exitcode(status)}\n{said.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def python(program, *arguments):
    return [sys.executable, "-c", program, *map(str, arguments)]


def is_parquet(path):
    """Whatever its name: not everyone ends it as usual, and some put other files beside."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


DUCKDB = "import sys, duckdb; duckdb.sql(sys.argv[1])"
POLARS = """import sys, polars
schema = {"id": polars.Int64, "user": polars.String, "kind": polars.String, "value": polars.Float64, "is_new": polars.Boolean,
          "visit": polars.Int32, "at": polars.String}
frame = polars.scan_ndjson(sys.argv[1], schema=schema)
frame = frame.with_columns(polars.col("at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC"))
frame.sink_parquet(sys.argv[2], compression="zstd", compression_level=1)"""


class Bench:
    def __init__(self, options):
        self.options = options
        self.work = pathlib.Path(options.work)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.bessemer = options.bessemer or target / "release/bessemer"
        self.generate = options.generate or target / "release/generate"
        self.bare = target / "bare-datafusion/release/bare-datafusion"
        self.written = None
        self.imports = {}
        self.results = []

    def data(self, what, rows):
        folder = self.work / f"{what}-{rows}"
        if not folder.exists():
            print(f"generating {rows:,} {what} …", file=sys.stderr)
            subprocess.run([self.generate, what, str(rows), str(max(4, rows // 1_000_000)), f"{folder}.part"], check=True)
            os.rename(f"{folder}.part", folder)
        return folder

    def build_bare(self):
        """With the workspace's own release profile: another one would measure the compiler."""
        manifest = (ROOT / "Cargo.toml").read_text()
        profile = self.work / "profile.toml"
        # The workspace has no Parquet scan of DataFusion's; here it touches every row and gets what Bessemer's own has.
        scans = ["datafusion-datasource", "datafusion-datasource-parquet", "datafusion-pruning"]
        full = "".join(f"\n[profile.release.package.{package}]\nopt-level = 3\n" for package in scans)
        profile.write_text(manifest[manifest.index("[profile.release]"):] + full)
        crate = ROOT / "integration-tests/bare-datafusion/Cargo.toml"
        command = ["cargo", "build", "--release", "--locked", "--manifest-path", crate, "--config", profile]
        subprocess.run([*command, "--target-dir", self.bare.parents[1]], check=True)

    def fresh(self, name):
        """An empty folder for the output of one run."""
        self.written = folder = self.work / "out" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def run_bessemer(self, sql):
        folder = self.fresh("bessemer")
        (folder / "pipeline.sql").write_text(sql)
        return [self.bessemer, "run", folder]

    def start_of(self, module):
        """CPU seconds to start Python and import a module."""
        if module not in self.imports:
            self.imports[module] = min(measure(python(f"import {module}"))[1] for _ in range(3))
        return self.imports[module]

    def answer(self, column):
        """Rows and a sum of what the contender that ran last has written: who is fast must have done the work."""
        import duckdb

        files = [str(path) for path in self.written.rglob("*") if ".bessemer" not in path.parts and is_parquet(path)]
        if not files:
            return 0, None
        [(rows, total)] = duckdb.execute(f"select count(*), sum({column}) from read_parquet(?)", [files]).fetchall()
        return rows, total and float(f"{total:.9g}")

    def race(self, title, contenders, column, once=()):
        """Runs contenders in turn, those in `once` only once: (wall seconds, CPU seconds, peak MiB) of each. A contender is
        (name, module to take off or None, function that prepares a command). All must have written the same, judged by the
        rows and the sum of a column, unless there is no column."""
        best = {}
        answers = {}
        peaks = {}
        for turn in range(self.options.repeat):
            for name, module, prepare in contenders:
                if turn and name in once:
                    continue
                wall, cpu, memory = measure(prepare())
                cpu -= self.start_of(module) if module else 0
                if column:
                    answers[name] = self.answer(column)
                peaks[name] = max(memory, peaks.get(name, 0))
                if name not in best or cpu < best[name][1]:
                    best[name] = (wall, cpu)
        if len(set(answers.values())) > 1:
            sys.exit(f"{title}: the contenders' answers differ: {answers}")
        return {name: (wall, cpu, peaks[name]) for name, (wall, cpu) in best.items()}

    def contest(self, title, contenders, reference, column):
        """Prints contenders side by side, as `race` takes them."""
        best = self.race(title, contenders, column)
        print(f"\n{title}\n{'':28}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}  CPU against {reference}")
        for name, (wall, cpu, memory) in best.items():
            print(f"{name:28}{wall:9.2f}{cpu:9.2f}{memory:10.0f}{cpu / best[reference][1]:14.2f}")
        self.results.append({"title": title, "results": best})
        return best

    def orders_sql(self, rows, query, constraints=()):
        lines = ",\n".join(f"CONSTRAINT c{at} EXPECT ({rule}) ON VIOLATION QUARANTINE" for at, rule in enumerate(constraints))
        constraints = f"({lines})" if lines else ""
        options = f"connector = 'object_store', path = '{self.data('orders', rows)}/*.parquet', format = 'parquet'"
        set_options = "WITH (path = 'out') AS " + query.format(table="orders")
        return f"CREATE SOURCE orders WITH ({options});\nCREATE FEATURE SET answer {constraints} {set_options};"

    def events_sql(self, rows):
        columns = ", ".join(f'"{name}" {data_type}' for name, data_type in EVENT_COLUMNS.items())
        source = f"path = '{self.data('events', rows)}/*.json', format = 'json'"
        return (
            f"CREATE SOURCE events ({columns}) WITH (connector = 'object_store', {source});\n"
            "CREATE FEATURE SET answer WITH (path = 'out') AS SELECT * FROM events;"
        )

    def group_by(self):
        rows = self.options.rows
        data = self.data("orders", rows)
        self.build_bare()
        options = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"

        def duckdb():
            out = self.fresh("duckdb")
            query = GROUP_BY.format(table=f"read_parquet('{data}/*.parquet')")
            return python(DUCKDB, f"COPY ({query}) TO '{out}/answer.parquet' ({options})")

        def bare():
            return [self.bare, f"{self.fresh('bare')}/", GROUP_BY.format(table="orders"), f"orders={data}"]

        contenders = [
            ("bessemer run", None, lambda: self.run_bessemer(self.orders_sql(rows, GROUP_BY))),
            ("bare DataFusion", None, bare),
            ("DuckDB COPY", "duckdb", duckdb),
        ]
        title = f"(a) filter, projection, group-by: {rows:,} orders, Parquet to Parquet"
        self.contest(title, contenders, "bare DataFusion", "revenue")

    def json_lines(self):
        rows = self.options.rows
        data = self.data("events", rows)
        columns = json.dumps(EVENT_COLUMNS).replace('"', "'")
        options = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"

        def duckdb():
            out = self.fresh("duckdb")
            read = f"read_json('{data}/*.json', format = 'newline_delimited', columns = {columns})"
            return python(DUCKDB, f"COPY (SELECT * FROM {read}) TO '{out}/answer.parquet' ({options})")

        def polars():
            return python(POLARS, f"{data}/*.json", f"{self.fresh('polars')}/answer.parquet")

        contenders = [
            ("bessemer run", None, lambda: self.run_bessemer(self.events_sql(rows))),
            ("DuckDB COPY", "duckdb", duckdb),
            ("Polars sink_parquet", "polars", polars),
        ]
        self.contest(f"(b) JSON lines to Parquet, ZSTD 1: {rows:,} events", contenders, "DuckDB COPY", "value")

    def memory(self):
        small, large = self.options.rows, self.options.large_rows
        for title, sql in [
            ("(c) memory: group-by of orders", lambda rows: self.orders_sql(rows, GROUP_BY)),
            ("(c) memory: projection of orders", lambda rows: self.orders_sql(rows, PROJECT)),
            ("(c) memory: JSON lines", self.events_sql),
        ]:
            contenders = [
                (f"bessemer, {rows:,} rows", None, lambda rows=rows: self.run_bessemer(sql(rows))) for rows in (small, large)
            ]
            best = self.contest(title, contenders, f"bessemer, {small:,} rows", None)
            (_, _, first), (_, _, second) = best.values()
            print(f"peak memory grows by a factor of {second / first:.2f}")

    def constraints(self):
        rows = self.options.rows
        contenders = [
            ("no constraint", None, lambda: self.run_bessemer(self.orders_sql(rows, PROJECT))),
            ("twenty constraints", None, lambda: self.run_bessemer(self.orders_sql(rows, PROJECT, CONSTRAINTS))),
        ]
        self.contest(f"(d) expectations: {rows:,} orders, filter and projection", contenders, "no constraint", "revenue")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--large-rows", type=int, default=50_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["group_by", "json_lines", "memory", "constraints"], action="append")
    parser.add_argument("--work", default="/tmp/bessemer-bench", help="folder for data and output")
    parser.add_argument("--bessemer", type=pathlib.Path)
    parser.add_argument("--generate", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here, too")
    options = parser.parse_args()
    pathlib.Path(options.work).mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    for name in options.only or ["group_by", "json_lines", "constraints", "memory"]:
        getattr(bench, name)()
    if options.json:
        options.json.write_text(json.dumps(bench.results, indent=2))


if __name__ == "__main__":
    main()
