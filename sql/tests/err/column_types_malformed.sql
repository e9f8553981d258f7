CREATE SOURCE flights (
    a DECIMAL,
    b DECIMAL(2, 18),
    c DECIMAL(90, 2),
    d TIMESTAMP(5),
    e INT(11),
    f ARRAY INT,
    g MAP<VARCHAR>,
    h STRUCT<a: INT>,
    i STRUCT<a INT, a INT>,
    j MAP<INT[], INT>,
    k ARRAY<INT,
    l VARCHAR(x),
    m INT[3],
    n TIME WITH TIME ZONE
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
