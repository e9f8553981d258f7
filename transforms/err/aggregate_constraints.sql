CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s (
  CONSTRAINT scope EXPECT AGGREGATE (count(*) > 0) ON VIOLATION FAIL,
  CONSTRAINT bare EXPECT AGGREGATE (count(*) > delay) PER RUN ON VIOLATION FAIL,
  CONSTRAINT none EXPECT AGGREGATE (1 > 0) PER RUN ON VIOLATION FAIL,
  CONSTRAINT unknown EXPECT AGGREGATE (avg(dely) > 0) PER RUN ON VIOLATION WARN,
  CONSTRAINT number EXPECT AGGREGATE (sum(delay)) PER RUN
) WITH (path = 'x') AS SELECT id, delay FROM flights;
