CREATE SOURCE flights (
    a,
    b NOT NULL,
    c 'text'
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
