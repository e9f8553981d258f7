CREATE SOURCE flights (
    at TIMESTAMP,
    WATERMARK FOR at AS at - 5
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
