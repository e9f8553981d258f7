CREATE SOURCE flights (id BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '5 minutes' ON LATE DROP) WITH (path = 'flights/');
CREATE FEATURE SET a EMIT EVERY INTERVAL '1 hour' WITH (path = 'a') AS SELECT count(*) AS n FROM flights;
CREATE FEATURE SET b WITH (path = 'b') EMIT EVERY INTERVAL '90' MINUTE AS SELECT count(*) AS n FROM flights;
CREATE FEATURE SET c ENTITY (id) emit every interval '1 day 500 ms' WITH (path = 'c') AS SELECT id, count(*) AS n FROM flights GROUP BY id;
