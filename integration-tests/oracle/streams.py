"""What the feature sets of `examples/clickstream` and `examples/fraud` must hold, computed by DuckDB with hand-written SQL:
no window function where a join says the same, so that it is another way to the rows.

    python integration-tests/oracle/streams.py clickstream   # writes integration-tests/oracle/expected/clickstream
    python integration-tests/oracle/streams.py fraud

Needs what `flights.py` needs, and writes what it does.
"""

import gzip
import json
import pathlib
import sys
from datetime import datetime

import duckdb
import flights

ROOT = pathlib.Path(__file__).resolve().parents[2]

SESSIONS = """
    with marked as (select *, "at" - lag("at") over (partition by {key} order by "at", {id}) < interval {gap} as goes_on from {table}),
    numbered as (select *, count(*) filter (where goes_on is not true) over (partition by {key} order by "at", {id}) as session from marked)
    select {key}, min("at") as began, max("at") + interval {gap} as ended, {columns} from numbered group by {key}, session"""

CLICKSTREAM = {
    "sessions": SESSIONS.format(
        table="clicks",
        key="user_id",
        id="event_id",
        gap="30 minutes",
        columns="""count(*) as events, count(distinct page) as pages, count_if(kind = 'cart')::bigint as carts,
            count_if(kind = 'order')::bigint as orders,
            coalesce(sum(amount_cents) filter (where kind = 'order'), 0)::bigint as revenue_cents,
            arg_min(page, ("at", event_id)) as entry_page, arg_max(page, ("at", event_id)) as exit_page""",
    ),
    "activity": """
        with before as (select c.event_id, arg_max((b."at", b.page), (b."at", b.event_id)) as last
                        from clicks c join clicks b on b.user_id = c.user_id and (b."at", b.event_id) < (c."at", c.event_id)
                        group by all)
        select c.user_id, c."at", c.event_id, c.kind, c.device,
               count(*) filter (where b."at" >= c."at" - interval 1 hour) as clicks_hour, count(*) as clicks_day,
               count(*) filter (where b."at" >= c."at" - interval 1 hour and b.kind = 'cart') as carts_hour,
               coalesce(sum(b.amount_cents) filter (where b.kind = 'order'), 0)::bigint as spent_day_cents,
               epoch(c."at" - l.last[1]) as seconds_since_last, l.last[2] as came_from
        from clicks c
        join clicks b on b.user_id = c.user_id and b."at" between c."at" - interval 1 day and c."at"
        left join before l on l.event_id = c.event_id
        group by all""",
    "attribution": """
        select o.event_id, o.user_id, o."at", o.amount_cents, i.impression_id, i.campaign,
               epoch(o."at" - i.shown_at) as seconds_after
        from clicks o
        left join (select o.event_id, arg_max(i, (i.shown_at, -i.impression_id)) as i
                   from clicks o join impressions i on i.user_id = o.user_id
                   where o."at" - interval 40 minutes < i.shown_at and i.shown_at <= o."at"
                   group by all) found on found.event_id = o.event_id
        left join impressions i on i.impression_id = found.i.impression_id
        where o.kind = 'order'""",
}

FRAUD = {
    "velocity": """
        with before as (select p.payment_id, avg(b.amount_cents) as mean, arg_max((b."at", b.country), (b."at", b.payment_id)) as last
                        from payments p join payments b on b.card = p.card and (b."at", b.payment_id) < (p."at", p.payment_id)
                        group by all)
        select p.card, p."at", p.payment_id, p.merchant, p.amount_cents, c.limit_cents, p.country <> c.home as is_abroad,
               count(*) filter (where b."at" >= p."at" - interval 10 minutes) as payments_10_minutes,
               count(*) filter (where b."at" >= p."at" - interval 1 hour) as payments_hour, count(*) as payments_day,
               sum(b.amount_cents)::bigint as spent_day_cents, max(b.amount_cents) as largest_day_cents,
               p.amount_cents / l.mean as against_mean_before, epoch(p."at" - l.last[1]) as seconds_since_last,
               p.country <> l.last[2] as country_changed
        from payments p
        join payments b on b.card = p.card and b."at" between p."at" - interval 1 day and p."at"
        left join cards c on c.card = p.card
        left join before l on l.payment_id = p.payment_id
        group by all""",
    "bursts": SESSIONS.format(
        table="payments",
        key="card",
        id="payment_id",
        gap="5 minutes",
        columns="""count(*) as payments, sum(amount_cents)::bigint as spent_cents, count(distinct country) as countries,
            max(amount_cents) as largest_cents""",
    )
    + " having count(*) >= 5",
    "guesses": """
        select card, "at", payment_id,
               (select count(*) from logins l where l.card = p.card and not succeeded
                and l."at" >= p."at" - interval 15 minutes and l."at" < p."at") as failed_logins,
               (select max("at") from logins l where l.card = p.card and not succeeded
                and l."at" >= p."at" - interval 15 minutes and l."at" < p."at") as last_failed,
               (select count(*) from logins l where l.card = p.card and not succeeded and l.country <> p.country
                and l."at" >= p."at" - interval 15 minutes and l."at" < p."at") as from_elsewhere
        from payments p""",
}


def event(line):
    """The columns of an event, or nothing where it is not one."""
    try:
        event = json.loads(line)
        at = datetime.fromisoformat(event["at"])
    except ValueError:
        return None
    number = event.get("amount_cents")
    if not isinstance(event["event_id"], int) or not isinstance(number, int | None):
        return None
    return event["event_id"], event["user_id"], event["kind"], event.get("page"), number, event.get("device"), at


def clickstream(db, data):
    lines = [line for path in sorted(data.glob("events*.json.gz")) for line in gzip.open(path, "rt")]
    events = [event(line) for line in lines]
    db.execute('create table events (event_id bigint, user_id varchar, kind varchar, page varchar, amount_cents bigint, device varchar, "at" timestamptz)')
    db.executemany("insert into events values (?, ?, ?, ?, ?, ?, ?)", [values for values in events if values])
    # What comes twice is the same twice.
    db.execute("create table clicks as select distinct * from events")
    db.execute(f"create table impressions as select * from read_csv('{data}/impressions.csv.gz')")
    impressions = db.execute("select count(*) from impressions").fetchone()[0]
    return {
        "events": dict(records=len(lines), undecodable=events.count(None)),
        "impressions": dict(records=impressions, undecodable=0),
    }


def fraud(db, data):
    counts = {}
    for table, files in [("payments", "payments*.csv.gz"), ("logins", "logins*.csv.gz"), ("cards", "cards.csv.gz")]:
        db.execute(f"create table {table} as select * from read_csv('{data}/{files}')")
        counts[table] = dict(records=db.execute(f"select count(*) from {table}").fetchone()[0], undecodable=0)
    return counts


def main(example):
    load, sets = {"clickstream": (clickstream, CLICKSTREAM), "fraud": (fraud, FRAUD)}[example]
    target = ROOT / "integration-tests/oracle/expected" / example
    target.mkdir(parents=True, exist_ok=True)
    db = duckdb.connect(config={"threads": 1})
    db.execute("set timezone = 'UTC'")
    counts = {"sources": load(db, ROOT / "examples" / example / "data"), "sets": {}}
    for name, rows in sets.items():
        of = dict(rows=rows, quarantined="false", dropped="false", day="null")
        counts["sets"][name] = flights.compute(db, name, of, target)
    (target / "counts.json").write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
