CREATE SOURCE flights (
    id BIGINT
    origin VARCHAR,
    at TIMESTAMP NOT NULL
    delay DOUBLE
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
