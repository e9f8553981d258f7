CREATE SOURCE flights (
    a INT GENERATED ALWAYS AS (1)
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
