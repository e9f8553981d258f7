"""Makes `data/`: what visitors of a shop do, as a collector delivers it.

    python examples/clickstream/make_data.py            # what is in the repository
    python examples/clickstream/make_data.py 20000      # the same of so many users

One file of events for each six hours of two days. Phones lose their connection: an event may come up to an hour late, one in
fifty comes twice, and a few are broken. The same number of users makes the same files.
"""

import gzip
import json
import pathlib
import random
import sys
from datetime import datetime, timedelta, timezone

FIRST = datetime(2025, 3, 1, tzinfo=timezone.utc)
DAYS = 2
PAGES = ["home", "search", "product/lamp", "product/chair", "product/table", "product/shelf", "help"]
CAMPAIGNS = ["spring", "loyalty", "clearance"]


def moment(seconds):
    at = FIRST + timedelta(milliseconds=round(1000 * seconds))
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


def visit(draw, user, began, write, show):
    """A visit: pages, perhaps a cart, perhaps an order; before it, perhaps an advertisement."""
    if draw.random() < 0.3:
        for _ in range(draw.choice([1, 1, 2])):
            show(user, draw.choice(CAMPAIGNS), began - draw.uniform(5, 2_400))
    at, in_cart = began, 0
    device = draw.choice(["phone", "phone", "laptop"])
    for step in range(draw.randint(1, 12)):
        page = "home" if step == 0 and draw.random() < 0.6 else draw.choice(PAGES)
        kind, cents = "view", None
        if page.startswith("product") and draw.random() < 0.25:
            kind, cents = "cart", draw.randint(900, 40_000)
            in_cart += cents
        elif in_cart and draw.random() < 0.3:
            kind, cents, page, in_cart = "order", in_cart, "checkout", 0
        write(user, kind, page, cents, device, at)
        at += draw.expovariate(1 / 90)


def main(users):
    draw = random.Random(17)
    events, shown = [], []

    def write(user, kind, page, cents, device, at):
        arrives = at + (draw.uniform(60, 3_600) if draw.random() < 0.1 else draw.uniform(0, 5))
        event = dict(event_id=len(events), user_id=user, kind=kind, page=page, amount_cents=cents, device=device, at=moment(at))
        events.append((arrives, json.dumps(event, separators=(",", ":"))))
        if draw.random() < 0.02:
            events.append((arrives + draw.uniform(1, 600), events[-1][1]))

    def show(user, campaign, at):
        shown.append((at, f"{len(shown)},{user},{campaign},{moment(at)}"))

    for user in range(users):
        for _ in range(draw.randint(1, 4)):
            visit(draw, f"u{user:05}", draw.uniform(3_000, (24 * DAYS - 2) * 3_600), write, show)
    # A cut line, a name where a number belongs, a day that February never had, a field of another kind.
    for hour, broken in [
        (7, '{"event_id":900001,"user_id":"u00007","kind":"view","page":"ho'),
        (9, '{"event_id":"first","user_id":"u00009","kind":"view","page":"home","at":"2025-03-01T09:10:00Z"}'),
        (30, '{"event_id":900003,"user_id":"u00011","kind":"view","page":"home","at":"2025-02-30T06:00:00Z"}'),
        (31, '{"event_id":900004,"user_id":"u00012","kind":"cart","page":"home","amount_cents":"12 EUR","at":"2025-03-02T07:00:00Z"}'),
    ]:
        events.append((hour * 3_600 + 1, broken))

    data = pathlib.Path(__file__).parent / "data"
    data.mkdir(exist_ok=True)
    for hour in range(0, 24 * DAYS, 6):
        lines = [line for arrives, line in sorted(events) if hour * 3_600 <= arrives < (hour + 6) * 3_600]
        write_gz(data / (FIRST + timedelta(hours=hour)).strftime("events-%Y-%m-%dT%H.json.gz"), lines)
    write_gz(data / "impressions.csv.gz", ["impression_id,user_id,campaign,shown_at", *(line for _, line in sorted(shown))])


def write_gz(path, lines):
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        out.write("".join(f"{line}\n" for line in lines).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 400)
