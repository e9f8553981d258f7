"""Bessemer on Apache Kafka, beside its bare parts and beside others doing the same job, from one run.

    cargo build --release --workspace
    pip install confluent-kafka==2.12.2 polars==2.1.0 bytewax==0.21.1 duckdb==2.0.0
    python integration-tests/benches/kafka.py                        # 10 million records, all of it
    python integration-tests/benches/kafka.py --only latency --only partitions

Starts one node of Apache Kafka (`integration-tests/kafka/kafka.sh`) and fills a topic of four partitions with JSON records
of about 110 bytes. Every contender is a process of its own that reads all of the topic, keeps the records with `value` below
900, leaves out a column, and writes Parquet, ZSTD 1. CPU seconds are the contender's own; those of the broker are printed beside
them. The bare consumer has `fetch.queue.backoff.ms` at 5, as Bessemer sets it by itself: with librdkafka's own second each
of them waits most of the time. The peers have what their clients come with; the faster one of the Python programs runs a
second time with what Bessemer sets, which nobody writes who has not measured it.
The peers in Python are given fewer records (`--peer-rows`), and compared by the million.

`latency` sends 20,000 records a second to a daemon with one-second epochs, and measures, of each record, the time from
its timestamp (set when it was sent) to the line that tells that its epoch is committed: its manifest is durable then.

`partitions` reads as many records from topics of one partition to 128: those of a partition are given on one after
another, whatever comes first.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTITIONS = 4
# Seconds that a contender may take.
LIMIT = 300
TICKS = os.sysconf("SC_CLK_TCK")

COLUMNS = '"id" BIGINT, "user" VARCHAR, "kind" VARCHAR, "value" DOUBLE, "is_new" BOOLEAN, "visit" INT, "at" TIMESTAMPTZ'

# What one writes first.
POLARS_ROWS = """import json, sys, polars
from confluent_kafka import Consumer, TopicPartition
brokers, topic, partitions, rows, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "peer", "enable.auto.commit": False})
consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
schema = {"id": polars.Int64, "user": polars.String, "kind": polars.String, "value": polars.Float64, "visit": polars.Int32,
          "at": polars.String}
seen, kept, file = 0, [], 0
def write():
    global kept, file
    frame = polars.DataFrame(kept, schema=schema, orient="row")
    frame = frame.with_columns(polars.col("at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC"))
    frame.write_parquet(f"{out}/{file}.parquet", compression="zstd", compression_level=1)
    kept, file = [], file + 1
while seen < rows:
    for message in consumer.consume(10_000, 1.0):
        record = json.loads(message.value())
        seen += 1
        if record["value"] < 900:
            kept.append((record["id"], record["user"], record["kind"], record["value"], record["visit"], record["at"]))
    if len(kept) >= 500_000:
        write()
write()"""

# The same by someone who knows where the time goes: no Python object for a record but its bytes.
POLARS_BATCHES = """import io, json, sys, polars
from confluent_kafka import Consumer, TopicPartition
brokers, topic, partitions, rows, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
settings = json.loads(sys.argv[6]) if sys.argv[6:] else {}
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "peer", "enable.auto.commit": False, **settings})
consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
schema = {"id": polars.Int64, "user": polars.String, "kind": polars.String, "value": polars.Float64, "is_new": polars.Boolean,
          "visit": polars.Int32, "at": polars.String}
seen, values, file = 0, [], 0
def write():
    global values, file
    frame = polars.read_ndjson(io.BytesIO(b"\\n".join(values)), schema=schema)
    frame = frame.filter(polars.col("value") < 900).drop("is_new")
    frame = frame.with_columns(polars.col("at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC"))
    frame.write_parquet(f"{out}/{file}.parquet", compression="zstd", compression_level=1)
    values, file = [], file + 1
while seen < rows:
    messages = consumer.consume(100_000, 0.2)
    values.extend(message.value() for message in messages)
    seen += len(messages)
    if len(values) >= 500_000:
        write()
write()"""

# What of Bessemer's settings makes a consumer in Python faster, and the queue that it needs then.
TUNED = {"fetch.queue.backoff.ms": 5, "queued.min.messages": 1000000, "queued.max.messages.kbytes": 16384}

BYTEWAX = """import json, os, sys
import pyarrow, pyarrow.parquet
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
brokers, topic, partitions, rows, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
class Part(StatelessSinkPartition):
    def __init__(self):
        self.kept, self.file = [], 0
    def write_batch(self, items):
        self.kept.extend(items)
        if len(self.kept) >= 500_000:
            self.write()
    def write(self):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(self.kept), f"{out}/{self.file}.parquet", compression="zstd")
        self.kept, self.file = [], self.file + 1
    def close(self):
        self.write()
class Sink(DynamicSink):
    def build(self, step, index, count):
        return Part()
flow = Dataflow("bench")
stream = op.input("in", flow, KafkaSource([brokers], [topic], tail=False, batch_size=10_000))
stream = op.map("decode", stream, lambda message: json.loads(message.value))
stream = op.filter("filter", stream, lambda record: record["value"] < 900)
def leave(record):
    del record["is_new"]
    return record
stream = op.map("project", stream, leave)
op.output("out", stream, Sink())
run_main(flow)"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Kafka:
    """One node on loopback."""

    def __init__(self):
        # The controller's port is the next one.
        port = free_port()
        self.brokers = f"127.0.0.1:{port}"
        script = ROOT / "integration-tests/kafka/kafka.sh"
        subprocess.run([script, "install"], check=True, stdout=subprocess.DEVNULL)
        self.process = subprocess.Popen([script, "serve", str(port)], stdin=subprocess.PIPE)

    def cpu(self):
        """CPU seconds of the node so far. Whoever makes its first topic waits until it answers."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid), "java"], capture_output=True, text=True, check=True)
        return process_cpu(int(found.stdout))

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def measure(command):
    """Runs a command to its end: (wall seconds, CPU seconds, peak MiB)."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    limit = threading.Timer(LIMIT, process.kill)
    limit.start()
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    limit.cancel()
    if status:
        sys.exit(f"{command}\nended with {os.waitstatus_to_exitcode(status)}\n{said.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


class Bench:
    def __init__(self, options):
        self.options = options
        self.work = pathlib.Path(options.work)
        release = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
        self.bessemer, self.parts, self.generate = release / "bessemer", release / "kafka_parts", release / "generate"
        self.kafka = Kafka()
        self.results = {}
        self.topics = set()

    def files(self):
        rows = self.options.rows
        folder = self.work / f"events-{rows}"
        if not folder.exists():
            print(f"generating {rows:,} events …", file=sys.stderr)
            subprocess.run([self.generate, "events", str(rows), "10", f"{folder}.part"], check=True)
            os.rename(f"{folder}.part", folder)
        return sorted(folder.glob("*.json"))

    def topic(self, rows, partitions=PARTITIONS):
        name = f"events-{rows}-{partitions}"
        if name in self.topics:
            return name
        self.topics.add(name)
        print(f"filling topic {name} …", file=sys.stderr)
        subprocess.run([self.parts, "produce", self.kafka.brokers, name, str(partitions), str(rows), *self.files()], check=True)
        return name

    def fresh(self, name):
        folder = self.work / "out" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def sql(self, topic, settings=""):
        options = f"connector = 'kafka', bootstrap_servers = '{self.kafka.brokers}', topic = '{topic}', format = 'json'"
        query = 'SELECT "id", "user", "kind", "value", "visit", "at" FROM events WHERE "value" < 900'
        return f"{settings}CREATE SOURCE events ({COLUMNS}) WITH ({options});\nCREATE FEATURE SET answer WITH (path = 'out') AS {query};"

    def pipeline(self, name, topic, settings=""):
        folder = self.fresh(name)
        (folder / "pipeline.sql").write_text(self.sql(topic, settings))
        return folder

    def answer(self, folder):
        """Rows and a sum of what was written: who is fast must have done the work."""
        import duckdb

        files = [str(path) for path in folder.rglob("*.parquet") if ".bessemer" not in path.parts]
        rows, total = duckdb.execute("select count(*), sum(\"value\") from read_parquet(?, union_by_name = true)", [files]).fetchone()
        return rows, float(f"{total:.9g}")

    def best(self, name, rows, prepare, folder=None):
        """The fastest of some runs by CPU, printed per million records."""
        best = None
        for _ in range(self.options.repeat):
            command = prepare()
            before = self.kafka.cpu()
            wall, cpu, memory = measure(command)
            run = (cpu, wall, memory, self.kafka.cpu() - before)
            best = min(best or run, run)
        cpu, wall, memory, broker = best
        answer = self.answer(self.work / "out" / folder) if folder else None
        print(f"{name:34}{rows:12,}{wall:9.2f}{rows / wall:12,.0f}{cpu:9.2f}{cpu * 1e6 / rows:10.2f}{memory:10.0f}{broker:9.2f}", flush=True)
        self.results[name] = {"rows": rows, "wall": wall, "cpu": cpu, "peak_mib": memory, "broker_cpu": broker}
        return {"rate": rows / wall, "per_million": cpu * 1e6 / rows, "memory": memory, "answer": answer}

    def heading(self):
        print(f"\n{'':34}{'records':>12}{'wall s':>9}{'records/s':>12}{'CPU s':>9}{'CPU s/M':>10}{'peak MiB':>10}{'broker':>9}")

    def partitions(self):
        """The same number of records in more and more partitions."""
        rows = self.options.rows
        topics = [(partitions, self.topic(rows, partitions)) for partitions in [1, 4, 8, 16, 32, 64, 128]]
        self.heading()
        answers = set()
        for partitions, topic in topics:
            name = f"bessemer run, {partitions} partitions"
            answers.add(self.best(name, rows, lambda: [self.bessemer, "run", self.pipeline("bessemer", topic)], "bessemer")["answer"])
        if len(answers) > 1:
            sys.exit(f"the answers differ: {answers}")

    def throughput(self):
        rows, peers = self.options.rows, self.options.peer_rows
        files, topic, peer_topic = self.files(), self.topic(rows), self.topic(peers)
        brokers = self.kafka.brokers
        self.heading()
        consume = self.best("(a) bare rdkafka consumer", rows, lambda: [self.parts, "consume", brokers, topic, str(PARTITIONS), str(rows)])
        decode = self.best("strict decode of the lines", rows, lambda: [self.parts, "decode", str(rows), *files])
        write = self.best("decode, filter, Parquet", rows, lambda: [self.parts, "write", str(rows), self.fresh("parts"), *files], "parts")
        ours = self.best("(b) bessemer run", rows, lambda: [self.bessemer, "run", self.pipeline("bessemer", topic)], "bessemer")
        less = self.best("(b) bessemer run, fewer records", peers, lambda: [self.bessemer, "run", self.pipeline("less", peer_topic)], "less")

        def python(name, program, settings):
            def prepare():
                folder = self.fresh(name)
                return [sys.executable, "-c", program, brokers, peer_topic, str(PARTITIONS), str(peers), folder, *settings]

            return prepare

        others = {}
        for title, name, program, *settings in [
            ("(c) confluent-kafka, Polars", "rows", POLARS_ROWS),
            ("(c) the same by columns", "batches", POLARS_BATCHES),
            ("(c) by columns, tuned", "tuned", POLARS_BATCHES, json.dumps(TUNED)),
            ("(d) Bytewax", "bytewax", BYTEWAX),
        ]:
            others[title] = self.best(title, peers, python(name, program, settings), name)
        parts = consume["per_million"] + write["per_million"]
        print(f"\nbare parts: consumer {consume['per_million']:.2f}, decode {decode['per_million']:.2f}, "
              f"filter and Parquet {write['per_million'] - decode['per_million']:.2f} CPU s per million records: {parts:.2f}")
        print(f"(b) against the sum of its bare parts: {ours['per_million'] / parts:.2f} in CPU")
        for title, other in others.items():
            print(f"(b) against {title[4:]}: {ours['rate'] / other['rate']:.1f} times the records/s, "
                  f"{ours['per_million'] / other['per_million']:.2f} of the CPU")
        print(f"peak memory of (b) from {peers:,} to {rows:,} records: {less['memory']:.0f} to {ours['memory']:.0f} MiB")
        if ours["answer"] != write["answer"]:
            sys.exit(f"the answers differ: {ours['answer']} and {write['answer']}")
        wrong = {title: other["answer"] for title, other in others.items() if other["answer"] != less["answer"]}
        if wrong:
            sys.exit(f"the answers differ from {less['answer']}: {wrong}")

    def latency(self):
        """Time from sending to the durable manifest at a steady pace."""
        rate, seconds = self.options.rate, self.options.seconds
        files = self.files()
        for where in ["local disk", "S3"]:
            topic = f"paced-{where[:2].strip().lower()}"
            subprocess.run([self.parts, "produce", self.kafka.brokers, topic, str(PARTITIONS), "0"], check=True)
            server, environment = None, {}
            settings = "SET epoch_age_max = '1 second';\n"
            if where == "S3":
                server = subprocess.Popen([self.parts, "s3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                environment = json.loads(server.stdout.readline())
                settings += "CREATE PIPELINE paced WITH (state = 's3://lake/state');\n"
            folder = self.fresh("daemon")
            sql = self.sql(topic, settings)
            (folder / "pipeline.sql").write_text(sql.replace("'out'", "'s3://lake/out'") if server else sql)
            environment = {**os.environ, **environment}
            command = [self.bessemer, "daemon", folder / "pipeline.sql"]
            daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
            committed, total = {}, rate * seconds
            all_committed = threading.Event()

            def listen():
                records = 0
                for line in daemon.stdout:
                    if found := re.search(r": committed epoch=(\d+) records=(\d+) ", line):
                        committed[int(found.group(1))] = time.time()
                        records += int(found.group(2))
                        if records >= total:
                            all_committed.set()

            listener = threading.Thread(target=listen)
            listener.start()
            cpu_before, started = self.kafka.cpu(), time.monotonic()
            subprocess.run([self.parts, "pace", self.kafka.brokers, topic, str(rate), str(seconds), *files], check=True)
            wall = time.monotonic() - started
            broker = (self.kafka.cpu() - cpu_before) / wall
            all_committed.wait(LIMIT)
            cpu = process_cpu(daemon.pid) / wall
            daemon.terminate()
            daemon.wait()
            listener.join()
            sent = self.sent(topic)
            waited = []
            for epoch, at in sorted(committed.items()):
                said = subprocess.run([self.bessemer, "inspect", folder / "pipeline.sql", str(epoch)], capture_output=True, text=True, env=environment)
                for slice_ in json.loads(said.stdout)["slice"].values():
                    for range_ in slice_.get("ranges", []):
                        waited += [at - moment for moment in sent[range_["partition"]][range_["start"]:range_["end"]]]
            waited.sort()
            if len(waited) != total:
                sys.exit(f"{where}: {len(waited):,} of {total:,} records are in committed epochs")
            p50, p99 = waited[len(waited) // 2], waited[int(len(waited) * 0.99)]
            print(f"{where:12} {rate:,} records/s for {seconds} s: p50 {p50:.2f} s, p99 {p99:.2f} s, worst {waited[-1]:.2f} s from "
                  f"sending to the durable manifest; CPU {cpu:.0%} of a core (broker {broker:.0%}), {len(committed)} epochs", flush=True)
            self.results[f"latency {where}"] = {"p50": p50, "p99": p99, "worst": waited[-1], "cpu": cpu, "broker": broker}
            if server:
                server.communicate()

    def sent(self, topic):
        """When each record was sent, in seconds since 1970, by partition and offset."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.kafka.brokers, "group.id": "clock", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        sent, left = {partition: [] for partition in range(PARTITIONS)}, self.options.rate * self.options.seconds
        while left:
            for message in consumer.consume(100_000, 1.0):
                sent[message.partition()].append(message.timestamp()[1] / 1000)
                left -= 1
        consumer.close()
        return sent


def process_cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--peer-rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", choices=["throughput", "partitions", "latency"], action="append")
    parser.add_argument("--work", default="/tmp/bessemer-bench", help="folder for data and output")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here, too")
    options = parser.parse_args()
    pathlib.Path(options.work).mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    try:
        for name in options.only or ["throughput", "partitions", "latency"]:
            getattr(bench, name)()
    finally:
        bench.kafka.stop()
    if options.json:
        options.json.write_text(json.dumps(bench.results, indent=2))


if __name__ == "__main__":
    main()
