CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS
SELECT id FORM flights;
