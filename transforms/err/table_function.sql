CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s WITH (path = 'x') AS SELECT idd FROM flights;
CREATE FEATURE SET t WITH (path = 'y') AS SELECT f.id, g.value FROM flights f, generate_series(1, 'a') g;
CREATE FEATURE SET u WITH (path = 'z') AS SELECT f.id FROM flights f JOIN no_such_function(3) g ON g.value = f.id;
