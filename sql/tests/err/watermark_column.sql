CREATE SOURCE flights (
    id BIGINT,
    at TIMESTAMP,
    WATERMARK FOR att
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
