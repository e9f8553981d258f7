CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE codes (id VARCHAR, code VARCHAR)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s (
  CONSTRAINT row EXPECT (carrier > 5),
  CONSTRAINT whole EXPECT AGGREGATE (max(carrier) > count(*)) PER RUN
) WITH (path = 'x') AS
SELECT id, carrier FROM flights
WHERE carrier = 5 AND delay < carrier AND distance IN (1, carrier) AND carrier BETWEEN 1 AND 2
  AND carrier IS DISTINCT FROM id;
CREATE FEATURE SET t WITH (path = 'y') AS
SELECT f.id, CASE f.carrier WHEN 1 THEN 'a' END AS first, p.seats > f.carrier AS more
FROM flights f JOIN planes p ON p.seats = f.carrier;
CREATE FEATURE SET u WITH (path = 'z') AS SELECT f.delay FROM flights f JOIN codes USING (id);
CREATE FEATURE SET v WITH (path = 'v') AS SELECT f.delay FROM flights f NATURAL JOIN (SELECT id FROM codes);
CREATE FEATURE SET w WITH (path = 'w') AS
SELECT id FROM flights f WHERE id IN (SELECT code FROM codes)
  AND EXISTS (SELECT 1 FROM codes c WHERE c.code = f.distance) AND delay > ANY (SELECT id FROM codes);
CREATE FEATURE SET x WITH (path = 'xx') AS
SELECT id FROM flights WHERE id = 'abc' AND delay < '1.5' AND distance IN ('7', '1.5') AND origin = 'abc' AND id > NULL;
