SET a 1;
SET b = 'x' 'y';
SET c = 1;
SET C = 2;
SET;
CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
