CREATE SOURCE flights (id BIGINT NOT NULL, origin VARCHAR, at TIMESTAMP, day DATE, note VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE weather (origin VARCHAR, seen TIMESTAMP, wind DOUBLE, text VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s0 WITH (path = 's0') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= w.text) ON f.origin = w.origin;
CREATE FEATURE SET s1 WITH (path = 's1') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= w.wind);
CREATE FEATURE SET s2 WITH (path = 's2') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.note >= w.text);
CREATE FEATURE SET s3 WITH (path = 's3') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.id >= w.wind) ON f.id = w.text;
