-- Query 1, Currency Conversion: the price of each bid in euros.
CREATE FEATURE SET q1 WITH (path = 'features/q1') AS
SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid;
