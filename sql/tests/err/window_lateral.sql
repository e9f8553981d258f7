CREATE SOURCE trips (id BIGINT, at TIMESTAMP, WATERMARK FOR at) WITH (path = 'trips/');
CREATE FEATURE SET f WITH (path = 'out') AS
SELECT * FROM trips, LATERAL TUMBLE(trips, at, INTERVAL '1 hour');
