CREATE SOURCE flights (id BIGINT, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS
SELECT * FROM flights a ASOF JOIN flights b MATCH_CONDITION a.at >= b.at;
