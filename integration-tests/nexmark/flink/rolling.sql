-- As `rolling.sql`, over milliseconds: Flink 2.3.0 compiles no frame over times (FLINK-25802).
CREATE FEATURE SET rolling WITH (path = 'features/rolling') AS
SELECT bidder, auction, price, date_time,
       count(*) OVER last_minute AS bids_1_minute,
       sum(price) OVER last_minute AS sum_1_minute,
       count(*) OVER last_10_minutes AS bids_10_minutes,
       avg(CAST(price AS DOUBLE)) OVER last_10_minutes AS mean_10_minutes,
       lag(price) OVER one_by_one AS price_before
FROM (
    SELECT *, CAST(1000 AS BIGINT) * TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', date_time)
              + EXTRACT(MILLISECOND FROM date_time) AS millis
    FROM bid
)
WINDOW last_minute AS (PARTITION BY bidder ORDER BY millis RANGE BETWEEN 60000 PRECEDING AND CURRENT ROW),
       last_10_minutes AS (PARTITION BY bidder ORDER BY millis RANGE BETWEEN 600000 PRECEDING AND CURRENT ROW),
       one_by_one AS (PARTITION BY bidder ORDER BY millis);
