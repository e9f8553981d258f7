/* What DataFusion's SELECT accepts; /* comments nest */ */
CREATE SOURCE t (a BIGINT, b DOUBLE, c VARCHAR, ts TIMESTAMP, tags VARCHAR[], s STRUCT<x INT, y INT>, j JSON) WITH (path = 'x');
CREATE TABLE u WITH (path = 'u');

CREATE VIEW v01 AS SELECT DISTINCT ON (c) c, a FROM t ORDER BY c, ts DESC NULLS LAST;
CREATE VIEW v02 AS SELECT c, row_number() OVER w AS n FROM t WINDOW w AS (PARTITION BY c ORDER BY ts) QUALIFY row_number() OVER (PARTITION BY c ORDER BY ts) = 1;
CREATE VIEW v03 AS SELECT count(*) FILTER (WHERE a > 0) AS positive, sum(b) AS s FROM t GROUP BY GROUPING SETS ((c), ()) HAVING count(*) > 1;
CREATE VIEW v04 AS SELECT c, avg(b) OVER (PARTITION BY c ORDER BY ts RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) AS m FROM t;
CREATE VIEW v05 AS SELECT a::DOUBLE / 2, CAST(c AS INT), TRY_CAST(c AS DATE), a >-1 AS x, a<-b AS y, -a*-b AS z FROM t;
CREATE VIEW v06 AS SELECT [1, 2, 3] AS l, ARRAY['a', 'b'] AS m, tags[1] AS first_tag, tags[1:2] AS some, s['x'] AS sx, s.y AS sy FROM t;
CREATE VIEW v07 AS SELECT {'a': 1, 'b': c} AS st, MAP {'k': a} AS mp, struct(a, b) AS st2, named_struct('x', a) AS st3 FROM t;
CREATE VIEW v08 AS SELECT j -> 'a' ->> 'b' AS x, c || 'x' AS y, c ~ '^A' AS r, c !~* 'b' AS nr, a # 3 AS h, a ^ 2 AS p, a << 1 AS sh FROM t;
CREATE VIEW v09 AS SELECT * EXCLUDE (a), * EXCEPT (b), * REPLACE (a + 1 AS a) FROM t;
CREATE VIEW v10 AS SELECT c, CASE WHEN a > 0 THEN 'p' WHEN a < 0 THEN 'n' ELSE NULL END AS sign FROM t WHERE c LIKE 'A%' AND c ILIKE 'a%' AND c IS DISTINCT FROM 'AA' AND a BETWEEN 1 AND 2 AND a NOT IN (1, 2);
CREATE VIEW v11 AS WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT * FROM n;
CREATE VIEW v12 AS WITH x AS MATERIALIZED (SELECT * FROM t), y AS (SELECT * FROM x) SELECT * FROM y UNION ALL SELECT * FROM x INTERSECT SELECT * FROM t EXCEPT ALL SELECT * FROM t;
CREATE VIEW v13 AS SELECT t.*, n.tag FROM t CROSS JOIN LATERAL (SELECT u.tag FROM u WHERE u.a = t.a) AS n LEFT SEMI JOIN u ON u.a = t.a FULL OUTER JOIN u AS o USING (a) NATURAL JOIN u AS p;
CREATE VIEW v14 AS SELECT unnest(tags) AS tag, extract(hour FROM ts) AS h, date_part('dow', ts) AS d, date_bin(INTERVAL '15' MINUTE, ts) AS q, position('a' IN c) AS pos, substring(c FROM 1 FOR 2) AS sub, trim(BOTH 'x' FROM c) AS tr, ts AT TIME ZONE 'UTC' AS z FROM t;
CREATE VIEW v15 AS SELECT string_agg(c, ',' ORDER BY ts), first_value(a ORDER BY ts DESC), percentile_cont(0.5) WITHIN GROUP (ORDER BY b), approx_percentile_cont(b, 0.9), lag(a, 1) IGNORE NULLS OVER (ORDER BY ts), sum(DISTINCT a) FROM t;
CREATE VIEW v16 AS SELECT (SELECT max(a) FROM u) AS m, EXISTS (SELECT 1 FROM u WHERE u.a = t.a) AS e, a = ANY (SELECT a FROM u) AS q FROM t WHERE a IN (SELECT a FROM u);
CREATE VIEW v17 AS SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS x (id, name);
CREATE VIEW v18 AS VALUES (1), (2);
CREATE VIEW v19 AS FROM t SELECT a WHERE a > 0;
CREATE VIEW v20 AS SELECT * FROM generate_series(1, 10) AS g, unnest([1, 2]) AS h;
CREATE VIEW v21 AS SELECT "order", "Mixed", T.A, 1_000, E'tab\t', $$dollar$$, X'00', DATE '2013-01-01', TIMESTAMP '2013-01-01', a NOTNULL, sum(a) OVER (ROWS UNBOUNDED PRECEDING) FROM T LIMIT 10 OFFSET 5;
CREATE VIEW v22 AS SELECT c, count(*) FROM t GROUP BY ROLLUP (c), CUBE (a) ORDER BY ALL;
CREATE VIEW v23 AS SELECT c, count(*) FROM t GROUP BY ALL;
CREATE VIEW v24 AS FROM t |> WHERE a > 0 |> SELECT a;
CREATE VIEW v25 AS SELECT interval '1 day' * 2, overlay(c placing 'x' from 1), b % 2, not a > 1, a is not true, (a, b) = (1, 2), c similar to 'a' FROM t;

CREATE FEATURE SET f WITH (path = 'y') AS
SELECT 1 FROM v01, v02, v03, v04, v05, v06, v07, v08, v09, v10, v11, v12, v13, v14, v15, v16, v17, v18, v19, v20, v21, v22, v23, v24, v25;
