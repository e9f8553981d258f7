CREATE SOURCE a (id BIGINT, name VARCHAR WITH (path = 'x');
CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT max(delay FROM flights;
