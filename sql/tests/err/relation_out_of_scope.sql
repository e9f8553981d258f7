CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS
SELECT * FROM (WITH inner_name AS (SELECT * FROM flights) SELECT * FROM inner_name) AS a, inner_name;
