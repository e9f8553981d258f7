CREATE SOURCE flights (id BIGINT NOT NULL, origin VARCHAR, at TIMESTAMP, day DATE, note VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE weather (origin VARCHAR, seen TIMESTAMP, wind DOUBLE, text VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s0 WITH (path = 's0') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= w.seen) ON f.origin = w.origin AND w.wind > 10 AND f.note;
CREATE FEATURE SET s1 WITH (path = 's1') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= w.seen) ON f.origin = w.origin OR f.origin = w.text;
CREATE FEATURE SET s2 WITH (path = 's2') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= w.seen) ON f.origin = f.note AND w.origin = 'JFK';
CREATE FEATURE SET s3 WITH (path = 's3') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= w.seen) ON f.origin <> w.origin;
