-- Query 19, Auction TOP-10 Price: the ten highest bids on each auction.
CREATE FEATURE SET q19 WITH (path = 'features/q19') AS
SELECT *
FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, date_time) AS rank_number FROM bid)
WHERE rank_number <= 10;
