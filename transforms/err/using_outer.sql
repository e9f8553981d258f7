CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET a WITH (path = 'a') AS
SELECT carrier, sum(p.seats) AS seats FROM flights f FULL JOIN planes p USING (carrier, origin) GROUP BY carrier;
CREATE FEATURE SET b WITH (path = 'b') AS
SELECT f.id, origin FROM flights f RIGHT JOIN planes p USING (carrier, origin);
CREATE FEATURE SET c WITH (path = 'c') AS
SELECT * FROM (SELECT id, carrier FROM flights) f FULL OUTER JOIN planes USING (carrier);
CREATE FEATURE SET d WITH (path = 'd') AS
SELECT coalesce(f.carrier, p.carrier) AS carrier, f.id, l.origin
FROM flights f FULL JOIN planes p USING (carrier) LEFT JOIN planes l ON l.origin = f.origin;
