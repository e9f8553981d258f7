CREATE SOURCE trips (
  id BIGINT NOT NULL, rider VARCHAR, fare DOUBLE, at TIMESTAMP, day DATE, paid TIMESTAMP,
  WATERMARK FOR at AS at - INTERVAL '5 minutes'
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE SOURCE pings (id BIGINT NOT NULL, rider VARCHAR, at TIMESTAMP)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s0 WITH (path = 's0') AS
SELECT id, window_start FROM HOP(trips, at, INTERVAL '1 month', INTERVAL '1 year');
CREATE FEATURE SET s1 WITH (path = 's1') AS
SELECT id, window_start FROM SESSION(trips, at, INTERVAL '1 month');
