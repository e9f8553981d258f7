"""What the feature sets of `examples/flights` must hold, computed by DuckDB with hand-written SQL.

    python integration-tests/oracle/flights.py examples/flights/data         integration-tests/oracle/expected/example
    python integration-tests/oracle/flights.py ../shared/data/nycflights13   integration-tests/oracle/expected/year

Needs `pip install duckdb==2.0.0 blake3==1.0.11`. Writes `<set>.csv.gz`: a header of `name:type`, then the rows in order
of their text, values separated by the control character US (0x1f). `\\N` is null, timestamps are microseconds since 1970,
floats have all their digits. A set of more than `ROWS_MAX` rows is pinned as one BLAKE3 digest for each day
(`<set>.digests.csv`), over the same lines. `counts.json` has what the ledger must say.
"""

import gzip
import json
import pathlib
import sys

import blake3
import duckdb

ROWS_MAX = 100_000

FLIGHTS = """year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT,
sched_arr_time INT, arr_delay INT, carrier VARCHAR, flight INT, tailnum VARCHAR, origin VARCHAR, dest VARCHAR,
air_time INT, distance INT, hour INT, minute INT, time_hour TIMESTAMPTZ"""
WEATHER = """origin VARCHAR, year INT, month INT, day INT, hour INT, temp DOUBLE, dewp DOUBLE, humid DOUBLE, wind_dir INT,
wind_speed DOUBLE, wind_gust DOUBLE, precip DOUBLE, pressure DOUBLE, visib DOUBLE, time_hour TIMESTAMPTZ"""
PLANES = """tailnum VARCHAR, year INT, type VARCHAR, manufacturer VARCHAR, model VARCHAR, engines INT, seats INT, speed INT,
engine VARCHAR"""
AIRPORTS = "faa VARCHAR, name VARCHAR, lat DOUBLE, lon DOUBLE, alt INT, tz INT, dst VARCHAR, tzone VARCHAR"
AIRLINES = "carrier VARCHAR, name VARCHAR"

# For each set: all rows that the query produces, then which of them are quarantined and which are dropped.
SETS = {
    "carrier_punctuality": dict(
        rows="""
            select f.carrier, a.name as airline, make_date(f.year, f.month, f.day) as flight_day, count(*) as flights,
                   count(*) - count(f.dep_time) as cancellations,
                   sum(f.dep_delay)::double / count(f.dep_delay) as mean_dep_delay,
                   sum(f.arr_delay)::double / count(f.arr_delay) as mean_arr_delay,
                   max(f.arr_delay) as max_arr_delay,
                   count_if(f.arr_delay <= 15)::double / nullif(count(f.arr_delay), 0) as on_time_share,
                   sum(f.distance)::bigint as miles
            from flights f join airlines a using (carrier) group by all""",
        quarantined="cancellations >= flights",
        dropped="false",
        day="flight_day",
    ),
    "airport_congestion": dict(
        rows="""
            select coalesce(h.origin, w.origin) as origin, coalesce(h.scheduled, w.time_hour) as scheduled,
                   coalesce(departures, 0) as departures, coalesce(cancellations, 0) as cancellations,
                   mean_dep_delay, max_dep_delay,
                   temp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib
            from (select origin, time_hour as scheduled, count(*) as departures,
                         count(*) - count(dep_time) as cancellations,
                         sum(dep_delay)::double / count(dep_delay) as mean_dep_delay, max(dep_delay) as max_dep_delay
                  from flights group by all) h
            full join weather w on w.origin = h.origin and w.time_hour = h.scheduled""",
        quarantined="wind_speed >= 200",
        dropped="false",
        day="scheduled::date",
    ),
    "plane_history": dict(
        rows="""
            select f.tailnum, f.time_hour as scheduled, f.carrier, f.flight, f.origin, f.dest, a.name as dest_name,
                   a.tzone as dest_tzone, f.dep_time is null as cancelled, f.dep_delay, f.arr_delay, f.air_time, f.distance,
                   f.distance::double * 60 / f.air_time as miles_per_hour,
                   p.manufacturer, p.model, p.engine, p.seats, f.year - p.year as age_years
            from flights f left join planes p using (tailnum) left join airports a on a.faa = f.dest""",
        # A row that is both quarantined and dropped is quarantined.
        quarantined="tailnum is null or tailnum not like 'N%' or seats < 20 or miles_per_hour not between 60 and 650",
        dropped="cancelled",
        day="scheduled::date",
    ),
}


def text(value):
    """The canonical text of a value; the tests make the same."""
    match value:
        case None:
            return "\\N"
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case _:
            return str(value)


def line(values):
    return "\x1f".join(map(text, values)) + "\n"


def kind(duckdb_type):
    """The type word of the header."""
    words = {"VARCHAR": "string", "BOOLEAN": "bool", "DOUBLE": "float", "DATE": "date"}
    if duckdb_type.startswith("TIMESTAMP"):
        return "timestamp"
    return words.get(duckdb_type, "int")


def load(db, folder):
    def read(name, glob, columns):
        types = dict(column.strip().rsplit(" ", 1) for column in columns.replace("\n", " ").split(","))
        db.execute(
            f"create table {name} as select * from read_csv('{folder}/{glob}', header = true, nullstr = 'NA', "
            f"columns = {types}, auto_detect = false, delim = ',', quote = '\"', escape = '\"', store_rejects = true, "
            f"rejects_table = 'rejects_{name}', rejects_scan = 'scans_{name}')"
        )
        records = db.execute(f"select count(*) from {name}").fetchone()[0]
        bad = db.execute(f"select count(distinct (file_id, line)) from rejects_{name}").fetchone()[0]
        return dict(records=records + bad, undecodable=bad)

    return {
        "flights": read("flights", "flights*.csv*", FLIGHTS),
        "weather": read("weather", "weather*.csv*", WEATHER),
        "planes": read("planes", "planes.csv.gz", PLANES),
        "airports": read("airports", "airports.csv.gz", AIRPORTS),
        "airlines": read("airlines", "airlines.csv.gz", AIRLINES),
    }


def compute(db, name, of, target):
    db.execute(f"create table {name} as {of['rows']}")
    fate = f"case when {of['quarantined']} then 'quarantined' when {of['dropped']} then 'dropped' else 'written' end"
    counts = dict.fromkeys(("written", "quarantined", "dropped"), 0)
    counts |= dict(db.execute(f"select {fate}, count(*) from {name} group by 1").fetchall())
    described = db.execute(f"describe {name}").fetchall()
    columns = ", ".join(
        f'epoch_us("{column}")' if kind(data_type) == "timestamp" else f'"{column}"' for column, data_type, *_ in described
    )
    header = ",".join(f"{column}:{kind(data_type)}" for column, data_type, *_ in described) + "\n"
    rows = db.execute(
        f"select ({of['day']})::varchar, {columns} from {name} where {fate} = 'written'"
    ).fetchall()
    if len(rows) <= ROWS_MAX:
        write_gz(target / f"{name}.csv.gz", header + "".join(sorted(line(row[1:]) for row in rows)))
    else:
        write_digests(target / f"{name}.digests.csv", header, rows)
    return counts


def write_gz(path, content):
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        out.write(content.encode())


def write_digests(path, header, rows):
    days = {}
    for day, *values in rows:
        days.setdefault(day, []).append(line(values))
    lines = [
        f"{day},{len(texts)},{blake3.blake3(''.join(sorted(texts)).encode()).hexdigest()}\n"
        for day, texts in sorted(days.items())
    ]
    path.write_text(f"# {header}day,rows,blake3\n" + "".join(lines))


def main(folder, target):
    target = pathlib.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    db = duckdb.connect(config={"threads": 1})
    db.execute("set timezone = 'UTC'")
    counts = {"sources": load(db, folder), "sets": {}}
    for name, of in SETS.items():
        counts["sets"][name] = compute(db, name, of, target)
    (target / "counts.json").write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
