CREATE SOURCE flights (id BIGINT, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS
SELECT * FROM flights a ASOF FULL OUTER JOIN flights b MATCH_CONDITION (a.at >= b.at) ON a.id = b.id;
