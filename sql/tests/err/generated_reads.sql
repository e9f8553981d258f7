CREATE SOURCE flights (
    a INT,
    b INT GENERATED ALWAYS AS (a + 1),
    c INT GENERATED ALWAYS AS (b + 1),
    d INT GENERATED ALWAYS AS (aa),
    e INT GENERATED ALWAYS AS ((SELECT max(a) FROM flights)),
    f INT GENERATED ALWAYS AS (sum(a)),
    g DOUBLE GENERATED ALWAYS AS (random()),
    h INT GENERATED ALWAYS AS (h)
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
