CREATE SOURCE flights (id BIGINT NOT NULL, origin VARCHAR, at TIMESTAMP, day DATE, note VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE weather (origin VARCHAR, seen TIMESTAMP, wind DOUBLE, text VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s0 WITH (path = 's0') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= f.day);
CREATE FEATURE SET s1 WITH (path = 's1') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= TIMESTAMP '2013-01-01 00:00:00');
CREATE FEATURE SET s2 WITH (path = 's2') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= f.at + (w.seen - w.seen));
