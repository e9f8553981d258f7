-- A shop's clicks: sessions, what a visitor did lately, and which advertisement an order came from.
-- Try it:  bessemer run examples/clickstream

CREATE PIPELINE clickstream;

CREATE SOURCE events (
    event_id BIGINT NOT NULL,
    user_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL, -- view, cart, order
    page VARCHAR,
    amount_cents BIGINT,
    device VARCHAR,
    at TIMESTAMPTZ NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '1 hour'
) WITH (connector = 'object_store', path = 'data/events*.json*', format = 'json');

CREATE SOURCE impressions (
    impression_id BIGINT NOT NULL, user_id VARCHAR NOT NULL, campaign VARCHAR NOT NULL, shown_at TIMESTAMPTZ NOT NULL,
    WATERMARK FOR shown_at AS shown_at - INTERVAL '1 minute'
) WITH (connector = 'object_store', path = 'data/impressions*.csv*', format = 'csv');

-- A phone that does not hear the answer sends an event again.
CREATE VIEW clicks AS
SELECT * FROM events
QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY at) = 1;

-- A visit: clicks of a user with no pause of half an hour among them.
CREATE FEATURE SET sessions (
    CONSTRAINT not_a_robot EXPECT (events <= 500) ON VIOLATION QUARANTINE,
    CONSTRAINT has_entry   EXPECT (entry_page IS NOT NULL) ON VIOLATION WARN
)
ENTITY (user_id) EVENT TIME (ended)
WITH (path = 'features/sessions', partition_by = 'day(ended)')
AS SELECT user_id, window_start AS began, window_end AS ended,
          count(*) AS events, count(DISTINCT page) AS pages,
          count(*) FILTER (WHERE kind = 'cart') AS carts, count(*) FILTER (WHERE kind = 'order') AS orders,
          coalesce(sum(amount_cents) FILTER (WHERE kind = 'order'), 0) AS revenue_cents,
          first_value(page ORDER BY at, event_id) AS entry_page, last_value(page ORDER BY at, event_id) AS exit_page
   FROM SESSION(clicks PARTITION BY user_id, at, INTERVAL '30 minutes')
   GROUP BY user_id, window_start, window_end;

-- At each click, what is known of its user then: an hour and a day together, each row looking back from itself.
CREATE FEATURE SET activity (
    CONSTRAINT spends_what_is_possible EXPECT (spent_day_cents BETWEEN 0 AND 10000000) ON VIOLATION QUARANTINE
)
ENTITY (user_id) EVENT TIME (at)
WITH (path = 'features/activity', partition_by = 'day(at)')
AS SELECT user_id, at, event_id, kind, device,
          count(*) OVER hour AS clicks_hour,
          count(*) OVER day AS clicks_day,
          count(*) FILTER (WHERE kind = 'cart') OVER hour AS carts_hour,
          coalesce(sum(CASE WHEN kind = 'order' THEN amount_cents END) OVER day, 0) AS spent_day_cents,
          date_part('epoch', at - lag(at) OVER one_by_one) AS seconds_since_last,
          lag(page) OVER one_by_one AS came_from
   FROM clicks
   WINDOW hour AS (PARTITION BY user_id ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW),
          day AS (PARTITION BY user_id ORDER BY at RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW),
          one_by_one AS (PARTITION BY user_id ORDER BY at, event_id);

-- Which campaign does an order owe to? The last advertisement that its user was shown in the 40 minutes before it.
CREATE FEATURE SET attribution
ENTITY (event_id) EVENT TIME (at)
WITH (path = 'features/attribution')
AS SELECT o.event_id, o.user_id, o.at, o.amount_cents, i.impression_id, i.campaign,
          date_part('epoch', o.at - i.shown_at) AS seconds_after
   FROM clicks o
   LEFT JOIN impressions i
     ON o.user_id = i.user_id AND o.at >= i.shown_at AND o.at < i.shown_at + INTERVAL '40 minutes'
   WHERE o.kind = 'order'
   QUALIFY row_number() OVER (PARTITION BY o.event_id ORDER BY i.shown_at DESC, i.impression_id) = 1;
