"""Queries of Nexmark over files: Bessemer beside Flink SQL and Spark, and beside bare DataFusion and DuckDB, from one run.

    cargo build --release -p bessemer -p bessemer-integration-tests
    pip install duckdb==2.0.0 pyspark==4.3.0
    python integration-tests/benches/nexmark.py                            # all queries over 10 million events
    python integration-tests/benches/nexmark.py --events 1000000 --only rolling --peers flink datafusion

Needs Java 17 for Flink and Spark, and Maven, which fetches Flink's jars once into the folder of the benchmark, at the
versions of `integration-tests/nexmark/flink/pom.xml` and with their checksums.

Events are Parquet, and so are the answers, ZSTD 1. Bessemer runs the files in `integration-tests/nexmark`; Flink runs the
same text as batch jobs, for the windows are in its spelling, but for one query in its `flink/`; bare DataFusion gets it
with the windows spelt out; DuckDB and Spark have queries of their own beside it. Everyone has two cores. Flink and Spark are one JVM each with 8 GiB, and are
set up as their documentation advises: memory for sorting and hashing, few partitions after a shuffle.

Every contender is a process of its own, and its CPU seconds are those of all its processes. To start is a part of them:
`start s` is the CPU of the same query over a thousand events, which is to start, to plan and to compile it. The last two
columns compare without it. All must have written the same number of rows, and the same sum of a column.

Spark takes long for `rolling` over 10 million events: more than seven minutes on two cores.
"""

import argparse
import hashlib
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
# The streams that a query reads, and what all contenders must have the same sum of.
QUERIES = {
    "q1": (["bid"], "price"),
    "q3": (["person", "auction"], "id"),
    "q5": (["bid"], "num"),
    "q7": (["bid"], "price"),
    "q8": (["person", "auction"], "id"),
    "rolling": (["bid"], "sum_1_minute + bids_1_minute + bids_10_minutes + mean_10_minutes + coalesce(price_before, 0)"),
}
PEERS = ["flink", "spark", "datafusion", "duckdb"]
# Events of the run that shows what it takes to start.
FEW = 1000
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

# The JVM's heap, and what Flink has beside it for sorting, hashing and what goes between tasks.
FLINK_HEAP = "-Xmx5g"
FLINK = {
    "execution.target": "local",
    "parallelism.default": "2",
    "taskmanager.numberOfTaskSlots": "2",
    "taskmanager.memory.managed.size": "2560m",
    "taskmanager.memory.network.min": "512m",
    "taskmanager.memory.network.max": "512m",
    "table.local-time-zone": "UTC",
}
# As Flink's own configuration opens them.
FLINK_OPENS = ["java.lang", "java.net", "java.io", "java.nio", "java.text", "java.time", "java.util", "java.util.concurrent"]

# Ends with the JVM, whose CPU seconds count only then.
SPARK = """import sys
from pyspark.sql import SparkSession
query, out, work, *tables = sys.argv[1:]
settings = {"spark.driver.memory": "8g", "spark.sql.shuffle.partitions": "4", "spark.sql.session.timeZone": "UTC",
            "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1",
            "spark.local.dir": work, "spark.hadoop.parquet.compression.codec.zstd.level": "1"}
spark = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
for table in tables:
    name, folder = table.split("=", 1)
    spark.read.parquet(folder).createOrReplaceTempView(name)
spark.sql(query).write.mode("append").option("compression", "zstd").parquet(out)
jvm = spark.sparkContext._gateway.proc
spark.stop()
jvm.stdin.close()
jvm.wait()"""


def bare_sql(query):
    """The query of a pipeline file as DataFusion knows it: no statement around it, and no windows in `FROM`."""
    text = (NEXMARK / f"{query}.sql").read_text()
    text = re.sub(r"CREATE VIEW (\w+) AS\n(.*?);", r"WITH \1 AS (\n\2\n)", text, flags=re.DOTALL)
    text = re.sub(r"CREATE FEATURE SET \w+ WITH \(.*\) AS\n", "", text)
    return re.sub(HOP, HOP_SPELT_OUT, re.sub(TUMBLE, TUMBLE_SPELT_OUT, text)).rstrip().rstrip(";")


def flink_sql(query, events, out):
    """A pipeline file as Flink knows it: the types of its columns, and a table for a source and for a set."""
    options = "'connector' = 'filesystem', 'format' = 'parquet', 'parquet.utc-timezone' = 'true'"
    written = (
        f"{options}, 'path' = 'file://{out}', 'parquet.compression' = 'ZSTD', 'parquet.compression.codec.zstd.level' = '1', "
        "'parquet.write.int64.timestamp' = 'true', 'parquet.timestamp.time.unit' = 'micros'"
    )
    sources = re.sub(r"CREATE PIPELINE \w+;\n", "", (NEXMARK / "files.sql").read_text())
    sources = sources.replace("VARCHAR", "STRING").replace("TIMESTAMP", "TIMESTAMP(3)").replace("'4 seconds'", "'4' SECOND")
    sources = re.sub(r"CREATE SOURCE (\w+)", r"CREATE TABLE \1", sources)
    sources = re.sub(r"WITH \(path = 'events/(\w+)-.*?\)", rf"WITH ({options}, 'path' = 'file://{events}/\1')", sources)
    own = NEXMARK / f"flink/{query}.sql"
    text = (own if own.exists() else NEXMARK / f"{query}.sql").read_text()
    text = re.sub(r"CREATE FEATURE SET (\w+) WITH \(.*\) AS\n", rf"CREATE TABLE \1 WITH ({written}) AS\n", text)
    # A number with a point is a DECIMAL there.
    return sources + re.sub(r"\b\d+\.\d+\b", r"\g<0>E0", text)


class Nexmark(Bench):
    def __init__(self, options):
        super().__init__(options)
        self.scratch = self.work / "scratch"
        self.scratch.mkdir(parents=True, exist_ok=True)
        if "datafusion" in options.peers:
            self.build_bare()
        self.flink = self.install_flink() if "flink" in options.peers else None

    def events(self, count):
        """A folder of Parquet files for each stream."""
        folder = self.work / f"nexmark-{count}"
        if not folder.exists():
            print(f"generating {count:,} events …", file=sys.stderr)
            part = pathlib.Path(f"{folder}.part")
            shutil.rmtree(part, ignore_errors=True)
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

    def install_flink(self):
        """A folder with Flink's jars and the program that runs its SQL."""
        pom, program = NEXMARK / "flink/pom.xml", NEXMARK / "flink/FlinkSql.java"
        version = hashlib.sha256(pom.read_bytes() + program.read_bytes()).hexdigest()[:12]
        folder = self.work / f"flink-{version}"
        if not folder.exists():
            print("fetching Flink …", file=sys.stderr)
            part = pathlib.Path(f"{folder}.part")
            shutil.rmtree(part, ignore_errors=True)
            fetch = ["mvn", "-B", "-q", "--strict-checksums", "-f", pom, "dependency:copy-dependencies"]
            subprocess.run([*fetch, "-DincludeScope=runtime", f"-DoutputDirectory={part / 'jars'}"], check=True)
            subprocess.run(["javac", "-cp", f"{part / 'jars'}/*", "-d", part / "program", program], check=True)
            part.rename(folder)
        return folder

    def run_bessemer_on(self, query, events):
        sources = (NEXMARK / "files.sql").read_text()
        sources = re.sub(r"path = 'events/(\w+)-\*\.json'", rf"path = '{events}/\1/*.parquet'", sources)
        sources = sources.replace("format = 'json', timestamp_format = 'epoch_millis'", "format = 'parquet'")
        return self.run_bessemer(sources + (NEXMARK / f"{query}.sql").read_text())

    def run_datafusion(self, query, events):
        tables = [f"{stream}={events / stream}" for stream in QUERIES[query][0]]
        return [self.bare, f"{self.fresh('bare')}/", bare_sql(query), *tables]

    def run_duckdb(self, query, events):
        views = "".join(f"CREATE VIEW {stream} AS FROM read_parquet('{events}/{stream}/*.parquet');\n" for stream in STREAMS)
        text = (NEXMARK / f"duckdb/{query}.sql").read_text()
        return python(DUCKDB, f"{views}COPY ({text}) TO '{self.fresh('duckdb')}/answer.parquet' ({PARQUET})")

    def run_flink(self, query, events):
        options = FLINK | {"io.tmp.dirs": self.scratch}
        opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in FLINK_OPENS]
        classes = f"{self.flink / 'program'}:{self.flink / 'jars'}/*"
        arguments = [flink_sql(query, events, self.fresh("flink")), *(f"{key}={value}" for key, value in options.items())]
        return ["java", FLINK_HEAP, *opens, "-cp", classes, "FlinkSql", *arguments]

    def run_spark(self, query, events):
        tables = [f"{stream}={events / stream}" for stream in QUERIES[query][0]]
        return python(SPARK, (NEXMARK / f"spark/{query}.sql").read_text(), self.fresh("spark"), self.scratch, *tables)

    def contenders(self, query, count):
        events = self.events(count)
        peers = {
            "flink": ("Flink SQL", self.run_flink),
            "spark": ("Spark SQL", self.run_spark),
            "datafusion": ("bare DataFusion", self.run_datafusion),
            "duckdb": ("DuckDB COPY", self.run_duckdb),
        }
        chosen = [("bessemer run", self.run_bessemer_on), *(peers[peer] for peer in self.options.peers)]
        return [(name, None, lambda run=run: run(query, events)) for name, run in chosen]

    def run(self, query):
        streams, column = QUERIES[query]
        once = ["Flink SQL", "Spark SQL"] if self.options.jvm_once else []
        title = f"{query}: {self.options.events:,} events, Parquet to Parquet"
        best = self.race(title, self.contenders(query, self.options.events), column, once)
        start = self.race(title, self.contenders(query, FEW), column, once)
        files = [f"{self.events(self.options.events) / stream}/*.parquet" for stream in streams]
        [(rows,)] = duckdb.sql(f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({files})").fetchall()
        self.show(title, rows, best, {name: cpu for name, (_, cpu, _) in start.items()})

    def show(self, title, rows, best, start):
        """A table: each contender, and its CPU seconds beside those of bare DataFusion and of Bessemer, with the start
        and without it."""
        references = [name for name in ("bare DataFusion", "bessemer run") if name in best]
        against = "".join(f"{'/ ' + name.split()[-1 if name[:4] == 'bare' else 0]:>13}" for name in references)
        print(f"\n{title}, {rows:,} rows read\n{'':18}{'wall s':>8}{'rows/s':>12}{'CPU s':>8}{'start s':>9}{'peak MiB':>10}"
              f"{against}{against}  (the last {len(references)} without the start)")
        # A query over a thousand events can cost as much as one over more: then there is nothing left to compare.
        rests = {name: max(cpu - start[name], 0.001) for name, (_, cpu, _) in best.items()}
        results = {}
        for name, (wall, cpu, memory) in best.items():
            whole = [cpu / best[reference][1] for reference in references]
            rest = [rests[name] / rests[reference] for reference in references]
            ratios = "".join(f"{ratio:13.2f}" for ratio in whole + rest)
            print(f"{name:18}{wall:8.2f}{rows / wall:12,.0f}{cpu:8.2f}{start[name]:9.2f}{memory:10.0f}{ratios}")
            results[name] = {"wall_s": wall, "rows_per_s": rows / wall, "cpu_s": cpu, "start_cpu_s": start[name],
                             "peak_mib": memory} | {f"cpu / {key}": ratio for key, ratio in zip(references, whole)} | {
                                 f"cpu / {key}, without start": ratio for key, ratio in zip(references, rest)}
        self.results.append({"title": title, "rows": rows, "results": results})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--jvm-once", action="store_true", help="run Flink and Spark once, whatever --repeat says")
    parser.add_argument("--only", choices=QUERIES, action="append")
    parser.add_argument("--peers", choices=PEERS, nargs="*", default=PEERS)
    parser.add_argument("--work", type=pathlib.Path, default="/tmp/bessemer-bench", help="folder for data, jars and output")
    parser.add_argument("--bessemer", type=pathlib.Path)
    parser.add_argument("--generate", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here, too")
    options = parser.parse_args()
    options.work = options.work.resolve()
    bench = Nexmark(options)
    for query in options.only or QUERIES:
        bench.run(query)
    if options.json:
        options.json.write_text(json.dumps(bench.results, indent=2))


if __name__ == "__main__":
    main()
