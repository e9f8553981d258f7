CREATE SOURCE flights (id BIGINT NOT NULL, origin VARCHAR, at TIMESTAMP, day DATE, note VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE weather (origin VARCHAR, seen TIMESTAMP, wind DOUBLE, text VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s0 WITH (path = 's0') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.att >= w.seen) ON f.orign = w.origin;
CREATE FEATURE SET s1 WITH (path = 's1') AS
SELECT f.id FROM flights f ASOF JOIN weather w MATCH_CONDITION (f.at >= x.seen) ON origin = w.origin;
CREATE FEATURE SET s2 WITH (path = 's2') AS
SELECT id FROM flights ASOF LEFT JOIN weather MATCH_CONDITION (at >= seen) USING (origin, wind);
CREATE FEATURE SET s3 WITH (path = 's3') AS
SELECT id FROM flights ASOF LEFT JOIN weather MATCH_CONDITION (at >= sen) USING (oringin);
