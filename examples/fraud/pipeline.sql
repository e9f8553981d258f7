-- Payments by card: what a model that stops thieves would be trained on.
-- Try it:  bessemer run examples/fraud

CREATE PIPELINE fraud;

CREATE SOURCE payments (
    payment_id BIGINT NOT NULL, card VARCHAR NOT NULL, merchant VARCHAR NOT NULL, country VARCHAR NOT NULL,
    amount_cents BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '5 minutes'
) WITH (connector = 'object_store', path = 'data/payments*.csv*', format = 'csv');

CREATE SOURCE logins (
    login_id BIGINT NOT NULL, card VARCHAR NOT NULL, country VARCHAR NOT NULL, succeeded BOOLEAN NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '5 minutes'
) WITH (connector = 'object_store', path = 'data/logins*.csv*', format = 'csv');

CREATE TABLE cards (card VARCHAR NOT NULL, home VARCHAR NOT NULL, limit_cents BIGINT NOT NULL)
WITH (connector = 'object_store', path = 'data/cards.csv.gz', format = 'csv');

-- What was known when a payment was made: how many before it, how much, how soon, how far from home.
CREATE FEATURE SET velocity (
    CONSTRAINT known_card    EXPECT (limit_cents IS NOT NULL) ON VIOLATION QUARANTINE,
    CONSTRAINT within_limit  EXPECT (spent_day_cents <= limit_cents) ON VIOLATION WARN,
    CONSTRAINT mostly_known  EXPECT AGGREGATE (count(limit_cents) > 0.99 * count(*)) ON VIOLATION FAIL
)
ENTITY (card) EVENT TIME (at)
WITH (path = 'features/velocity', partition_by = 'day(at)')
AS SELECT p.card, p.at, p.payment_id, p.merchant, p.amount_cents, c.limit_cents,
          p.country <> c.home AS is_abroad,
          count(*) OVER minutes AS payments_10_minutes,
          count(*) OVER hour AS payments_hour,
          count(*) OVER day AS payments_day,
          sum(p.amount_cents) OVER day AS spent_day_cents,
          max(p.amount_cents) OVER day AS largest_day_cents,
          p.amount_cents / avg(p.amount_cents) OVER before AS against_mean_before,
          date_part('epoch', p.at - lag(p.at) OVER one_by_one) AS seconds_since_last,
          p.country <> lag(p.country) OVER one_by_one AS country_changed
   FROM payments p LEFT JOIN cards c ON p.card = c.card
   WINDOW minutes AS (PARTITION BY p.card ORDER BY p.at RANGE BETWEEN INTERVAL '10 minutes' PRECEDING AND CURRENT ROW),
          hour AS (PARTITION BY p.card ORDER BY p.at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW),
          day AS (PARTITION BY p.card ORDER BY p.at RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW),
          before AS (PARTITION BY p.card ORDER BY p.at, p.payment_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
          one_by_one AS (PARTITION BY p.card ORDER BY p.at, p.payment_id);

-- Payments in haste: five or more, none longer than five minutes after the one before it.
CREATE FEATURE SET bursts
ENTITY (card) EVENT TIME (ended)
WITH (path = 'features/bursts')
AS SELECT card, window_start AS began, window_end AS ended, count(*) AS payments,
          sum(amount_cents) AS spent_cents, count(DISTINCT country) AS countries, max(amount_cents) AS largest_cents
   FROM SESSION(payments PARTITION BY card, at, INTERVAL '5 minutes')
   GROUP BY card, window_start, window_end
   HAVING count(*) >= 5;

-- Who guessed the password first? Logins that failed in the quarter of an hour before a payment.
CREATE FEATURE SET guesses
ENTITY (card) EVENT TIME (at)
WITH (path = 'features/guesses')
AS SELECT p.card, p.at, p.payment_id, count(l.login_id) AS failed_logins, max(l.at) AS last_failed,
          count(l.login_id) FILTER (WHERE l.country <> p.country) AS from_elsewhere
   FROM payments p
   LEFT JOIN logins l
     ON p.card = l.card AND NOT l.succeeded AND l.at >= p.at - INTERVAL '15 minutes' AND l.at < p.at
   GROUP BY p.card, p.at, p.payment_id;
