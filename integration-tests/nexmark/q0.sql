-- Query 0, Pass Through: every bid as it is, which shows what the way through costs.
CREATE FEATURE SET q0 WITH (path = 'features/q0') AS
SELECT auction, bidder, price, date_time, extra FROM bid;
