CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s WITH (path = 'x') AS
SELECT carrier, origin, count(*) AS n FROM flights GROUP BY carrier;
