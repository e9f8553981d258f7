CREATE SOURCE trips (
  id BIGINT NOT NULL, rider VARCHAR, fare DOUBLE, at TIMESTAMP, day DATE, paid TIMESTAMP,
  WATERMARK FOR at AS at - INTERVAL '5 minutes'
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE SOURCE pings (id BIGINT NOT NULL, rider VARCHAR, at TIMESTAMP)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s0 WITH (path = 's0') AS
SELECT id, window_start FROM TUMBLE(trips, at, '1 hour');
CREATE FEATURE SET s1 WITH (path = 's1') AS
SELECT id, window_start FROM TUMBLE(trips, at, INTERVAL '1 hour' * 2);
CREATE FEATURE SET s2 WITH (path = 's2') AS
SELECT id, window_start FROM TUMBLE(trips, at, 3600);
CREATE FEATURE SET s3 WITH (path = 's3') AS
SELECT id, window_start FROM TUMBLE(trips, at, fare);
