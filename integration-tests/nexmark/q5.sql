-- Query 5, Hot Items: which auctions have most bids within ten seconds, seen every two?
CREATE VIEW bids_of_auctions AS
SELECT auction, window_start, window_end, count(*) AS num
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end;

CREATE FEATURE SET q5 WITH (path = 'features/q5') AS
SELECT b.auction, b.num, b.window_start
FROM bids_of_auctions b
JOIN (SELECT window_start, max(num) AS num FROM bids_of_auctions GROUP BY window_start) most
    ON b.window_start = most.window_start AND b.num >= most.num;
