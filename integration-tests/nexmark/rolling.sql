-- Rolling features: what each bidder did in the minute and the ten minutes up to a bid, and the bid before it.
CREATE FEATURE SET rolling WITH (path = 'features/rolling') AS
SELECT bidder, auction, price, date_time,
       count(*) OVER last_minute AS bids_1_minute,
       sum(price) OVER last_minute AS sum_1_minute,
       count(*) OVER last_10_minutes AS bids_10_minutes,
       avg(CAST(price AS DOUBLE)) OVER last_10_minutes AS mean_10_minutes,
       lag(price) OVER one_by_one AS price_before
FROM bid
WINDOW last_minute AS (PARTITION BY bidder ORDER BY date_time RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW),
       last_10_minutes AS (PARTITION BY bidder ORDER BY date_time RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW),
       one_by_one AS (PARTITION BY bidder ORDER BY date_time);
