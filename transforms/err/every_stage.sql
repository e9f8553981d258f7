CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE VIEW broken AS SELECT idd FROM flights;
CREATE FEATURE SET s (
  CONSTRAINT one EXPECT (approx_median(delay) > 0),
  CONSTRAINT two EXPECT AGGREGATE (max(delay) > distance) PER RUN,
  CONSTRAINT three EXPECT AGGREGATE (1 > 0) PER RUN
) ENTITY (carier) EVENT TIME (at) WITH (path = 'x', partition_by = 'day(sheduled)') AS
SELECT carrier, no_such_function(delay) AS delay, scheduled FROM flights;
CREATE FEATURE SET t ENTITY (idd, carrier) WITH (path = 'y') AS SELECT idd FROM broken;
CREATE FEATURE SET u ENTITY (anything) WITH (path = 'z') AS SELECT * FROM broken;
