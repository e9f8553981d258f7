CREATE SOURCE flights (
    __bessemer_origin INT,
    b INT
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
