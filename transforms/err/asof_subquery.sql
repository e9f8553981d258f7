CREATE SOURCE flights (id BIGINT NOT NULL, origin VARCHAR, at TIMESTAMP, day DATE, note VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE weather (origin VARCHAR, seen TIMESTAMP, wind DOUBLE, text VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s0 WITH (path = 's0') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= (SELECT max(seen) FROM weather)) ON f.origin = w.origin;
