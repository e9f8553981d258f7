-- Query 11, User Sessions: how many bids does someone make before ten seconds without one?
CREATE FEATURE SET q11 WITH (path = 'features/q11') AS
SELECT bidder, count(*) AS bid_count, window_start, window_end
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end;
