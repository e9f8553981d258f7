-- Query 13, Bounded Side Input Join: the bids with what a table knows about them.
CREATE TABLE side_input (key BIGINT NOT NULL, value VARCHAR NOT NULL)
WITH (path = 'events/side_input.csv', format = 'csv');

CREATE FEATURE SET q13 WITH (path = 'features/q13') AS
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM bid b JOIN side_input s ON b.auction % 10000 = s.key;
