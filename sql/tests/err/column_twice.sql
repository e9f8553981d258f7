CREATE SOURCE flights (
    id BIGINT,
    ID VARCHAR,
    "ID" INT
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
