-- Query 4, Average Price for a Category: the mean of the highest bids that came while their auction was open.
CREATE FEATURE SET q4 WITH (path = 'features/q4') AS
SELECT category, avg(final) AS final
FROM (
    SELECT a.category, max(b.price) AS final
    FROM auction a JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
    GROUP BY a.id, a.category
)
GROUP BY category;
