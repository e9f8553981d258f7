CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f
ENTITY (id) ENTITY (origin)
WITH (path = 'x') WITH (path = 'y')
AS SELECT * FROM flights;
