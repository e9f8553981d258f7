CREATE SOURCE flights (
  id BIGINT NOT NULL, carrier VARCHAR, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, origin VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s WITH (path = 'x') AS
WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + one FROM n WHERE i < 10)
SELECT i FROM n;
CREATE FEATURE SET t WITH (path = 'y') AS
WITH RECURSIVE n AS (SELECT nothing AS i UNION ALL SELECT i + 1 FROM n WHERE i < 10)
SELECT i FROM n;
CREATE FEATURE SET u WITH (path = 'z') AS
WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 10)
SELECT j FROM n;
