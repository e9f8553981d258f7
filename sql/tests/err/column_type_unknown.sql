CREATE SOURCE flights (
    a BIGNIT,
    b DATETIME,
    c UUID,
    d FOO,
    e INTERVAL,
    f INT64
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
