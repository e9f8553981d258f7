CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s (
  CONSTRAINT unknown EXPECT (delai > 0),
  CONSTRAINT number EXPECT (delay + 1),
  CONSTRAINT types EXPECT (carrier > 3 AND carrier + 1 > 2)
) WITH (path = 'x') AS SELECT id, carrier, delay, scheduled FROM flights;
