CREATE SOURCE flights (id BIGINT NOT NULL, origin VARCHAR, at TIMESTAMP, day DATE, note VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE weather (origin VARCHAR, seen TIMESTAMP, wind DOUBLE, text VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s1 WITH (path = 's1') AS
SELECT f.id FROM flights f ASOF JOIN flights f MATCH_CONDITION (f.at >= f.at);
CREATE FEATURE SET s2 WITH (path = 's2') AS
SELECT f.id FROM flights f ASOF JOIN (SELECT sen FROM weather) w MATCH_CONDITION (f.at >= w.sen);
CREATE FEATURE SET s3 WITH (path = 's3') AS
SELECT f.id FROM flights f ASOF JOIN LATERAL (SELECT * FROM weather WHERE weather.origin = f.origin) w MATCH_CONDITION (f.at >= w.seen);
