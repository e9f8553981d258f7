CREATE SOURCE a (id BIGINT);
CREATE SOURCE b (id BIGINT) (path = 'x');
CREATE SOURCE c WIHT (path = 'x');
CREATE SOURCE d WITH path = 'x';
CREATE SOURCE e AS SELECT 1;
CREATE SOURCE g WITH (path = 'x') WITH (format = 'csv');
CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
