CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s (
  CONSTRAINT nth EXPECT AGGREGATE (nth_value(id, 2 ORDER BY delay) > 1) PER RUN,
  CONSTRAINT texts EXPECT AGGREGATE (length(string_agg(carrier, ',' ORDER BY id)) > 1) PER RUN,
  CONSTRAINT mean EXPECT AGGREGATE (avg(delay ORDER BY id) > 1) PER RUN,
  CONSTRAINT distinct_values EXPECT AGGREGATE (array_length(array_agg(DISTINCT carrier ORDER BY id)) > 1) PER RUN,
  CONSTRAINT separator EXPECT AGGREGATE (length(string_agg(carrier, origin)) > 1) PER RUN
) WITH (path = 'x') AS SELECT id, carrier, origin, delay FROM flights;
