-- Query 7, Highest Bid: the highest bids of every ten seconds.
CREATE FEATURE SET q7 WITH (path = 'features/q7') AS
SELECT b.auction, b.bidder, b.price, b.date_time, b.extra
FROM bid b
JOIN (
    SELECT max(price) AS price, window_start, window_end
    FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
    GROUP BY window_start, window_end
) highest
    ON b.price = highest.price AND b.date_time >= highest.window_start AND b.date_time < highest.window_end;
