-- Query 6, Average Selling Price by Seller: of each sold auction and the ten that its seller sold before it.
CREATE FEATURE SET q6 WITH (path = 'features/q6') AS
SELECT seller, id AS auction,
       avg(price) OVER (PARTITION BY seller ORDER BY date_time ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS avg_price
FROM (
    SELECT a.id, a.seller, b.price, b.date_time,
           row_number() OVER (PARTITION BY a.id, a.seller ORDER BY b.price DESC, b.date_time) AS place
    FROM auction a JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
)
WHERE place = 1;
