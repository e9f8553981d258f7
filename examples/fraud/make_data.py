"""Makes `data/`: payments by card, logins, and the cards themselves, with a few thieves among the customers.

    python examples/fraud/make_data.py            # what is in the repository
    python examples/fraud/make_data.py 20000      # the same of so many cards

One file of payments and one of logins for each day of a week, in the order of their arrival, which is not that of their
times. The same number of cards makes the same files.
"""

import gzip
import pathlib
import random
import sys
from datetime import datetime, timedelta, timezone

FIRST = datetime(2025, 6, 2, tzinfo=timezone.utc)
DAYS = 7
DAY = 86_400
COUNTRIES = ["AT", "BE", "DE", "ES", "FR", "IT", "NL", "PL"]
MERCHANTS = ["grocer", "fuel", "books", "travel", "phones", "jewels"]


def moment(seconds):
    at = FIRST + timedelta(milliseconds=round(1000 * seconds))
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


def main(count):
    draw = random.Random(23)
    payments, logins, cards = [], [], []

    def pay(card, country, merchant, cents, at):
        arrives = at + draw.expovariate(1 / 20)
        payments.append((arrives, f"{len(payments)},{card},{merchant},{country},{cents},{moment(at)}"))

    def login(card, country, is_ok, at):
        arrives = at + draw.expovariate(1 / 5)
        logins.append((arrives, f"{len(logins)},{card},{country},{str(is_ok).lower()},{moment(at)}"))

    for number in range(count):
        card, home = f"c{number:06}", draw.choice(COUNTRIES)
        cards.append(f"{card},{home},{draw.choice([100_000, 250_000, 500_000])}")
        for _ in range(draw.randint(2, 14)):
            at = draw.uniform(0, DAYS * DAY - 3_600)
            country = home if draw.random() < 0.93 else draw.choice(COUNTRIES)
            if draw.random() < 0.5:
                login(card, country, draw.random() > 0.05, at - draw.uniform(10, 1_200))
            pay(card, country, draw.choice(MERCHANTS[:4]), draw.randint(200, 15_000), at)
        if draw.random() < 0.04:
            # A thief guesses the password, and then spends in haste, abroad.
            at, country = draw.uniform(DAY, DAYS * DAY - 7_200), draw.choice([it for it in COUNTRIES if it != home])
            for guess in range(draw.randint(3, 7)):
                login(card, country, False, at + 9 * guess)
            login(card, country, True, at + 80)
            for _ in range(draw.randint(5, 9)):
                at += draw.uniform(15, 100)
                pay(card, country, draw.choice(MERCHANTS[3:]), draw.randint(20_000, 90_000), at + 90)

    data = pathlib.Path(__file__).parent / "data"
    data.mkdir(exist_ok=True)
    for name, header, rows in [
        ("payments", "payment_id,card,merchant,country,amount_cents,at", payments),
        ("logins", "login_id,card,country,succeeded,at", logins),
    ]:
        for day in range(DAYS):
            lines = [line for arrives, line in sorted(rows) if max(0, arrives) // DAY == day]
            write_gz(data / (FIRST + timedelta(days=day)).strftime(f"{name}-%Y-%m-%d.csv.gz"), [header, *lines])
    write_gz(data / "cards.csv.gz", ["card,home,limit_cents", *cards])


def write_gz(path, lines):
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        out.write("".join(f"{line}\n" for line in lines).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 300)
