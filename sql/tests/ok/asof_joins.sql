CREATE SOURCE flights (id BIGINT, origin VARCHAR, at TIMESTAMP) WITH (path = 'flights/');
CREATE TABLE weather (origin VARCHAR, at TIMESTAMP) WITH (path = 'weather/');
CREATE FEATURE SET f WITH (path = 'out') AS
SELECT f.id, w.at AS before, n.at AS after, o.at AS other
FROM flights f
ASOF LEFT JOIN weather w MATCH_CONDITION (f.at >= w.at) ON f.origin = w.origin
JOIN (weather n ASOF INNER JOIN weather USING_NOTHING MATCH_CONDITION (n.at < using_nothing.at)) ON n.origin = f.origin
ASOF LEFT OUTER JOIN weather o MATCH_CONDITION (f.at > o.at) USING (origin);
