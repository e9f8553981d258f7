CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE VIEW v AS SELECT idd FROM flights;
CREATE VIEW w AS SELECT * FROM v;
CREATE FEATURE SET s WITH (path = 'x') AS SELECT * FROM w;
CREATE FEATURE SET t WITH (path = 'x2') AS SELECT nothing FROM v;
