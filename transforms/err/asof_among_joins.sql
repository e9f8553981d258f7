CREATE SOURCE flights (id BIGINT NOT NULL, origin VARCHAR, at TIMESTAMP, day DATE, note VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE weather (origin VARCHAR, seen TIMESTAMP, wind DOUBLE, text VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s0 WITH (path = 's0') AS
SELECT f.id FROM flights f JOIN weather v ON f.origin = v.origin
ASOF JOIN weather w MATCH_CONDITION (v.seen >= w.seen) ON v.origin = w.origin
ASOF LEFT JOIN weather x MATCH_CONDITION (w.seen > x.seem) ON w.origin = x.origin
LEFT JOIN weather y ON x.origin = y.origin;
CREATE FEATURE SET s1 WITH (path = 's1') AS
SELECT f.id, v.wnd FROM flights f
ASOF JOIN weather w MATCH_CONDITION (f.at >= w.seen) ON f.origin = w.origin
JOIN weather v ON f.origin = v.origi;
