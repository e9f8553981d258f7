CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE VIEW piped AS SELECT * FROM planes |> WHERE seats > 3 |> LIMIT 3;
CREATE VIEW far AS SELECT * FROM planes |> ORDER BY seats |> AGGREGATE count(*) AS n GROUP BY carrier |> LIMIT 3 OFFSET 2;
CREATE VIEW any AS SELECT DISTINCT ON (carrier) carrier, seats FROM planes;
CREATE VIEW of_both AS
SELECT DISTINCT ON (carrier) carrier, seats FROM planes UNION ALL SELECT carrier, distance FROM flights ORDER BY carrier;
CREATE FEATURE SET s WITH (path = 'x') AS
SELECT p.carrier, (SELECT DISTINCT ON (origin) seats FROM planes) AS seats FROM planes p;
CREATE FEATURE SET t ENTITY (seats) EVENT TIME (n) WITH (path = 'y') AS SELECT n AS seats, n FROM far LIMIT 3;
