CREATE SOURCE flights (
    id BIGINT,
    , origin VARCHAR,
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
