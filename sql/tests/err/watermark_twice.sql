CREATE SOURCE flights (
    at TIMESTAMP,
    WATERMARK FOR at,
    WATERMARK FOR at AS at - INTERVAL '1 hour'
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
