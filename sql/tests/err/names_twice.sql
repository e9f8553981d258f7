CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE TABLE flights WITH (path = 'x');
CREATE VIEW v AS SELECT * FROM flights;
CREATE VIEW V AS SELECT 2;
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
