-- Query 2, Selection: the bids on some auctions.
CREATE FEATURE SET q2 WITH (path = 'features/q2') AS
SELECT auction, price FROM bid WHERE auction % 123 = 0;
