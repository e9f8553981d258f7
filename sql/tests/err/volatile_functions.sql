CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS
SELECT now() AS a, CURRENT_TIMESTAMP AS b, random() AS c, uuid() AS d, current_date AS e,
       (SELECT max(now()) FROM flights) AS g
FROM flights WHERE at > NOW();
