CREATE SOURCE flights (path VARCHAR, n INT)
INCLUDE PATH, ROW AS n, ROW AS m
WITH (path = 'x');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
