CREATE SOURCE trips (rider VARCHAR, fare DOUBLE, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '5 minutes' ON LATE DROP)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE SOURCE calls (rider VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '5 minutes')
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE SOURCE visits (rider VARCHAR, at TIMESTAMP) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE riders (rider VARCHAR, home VARCHAR) WITH (connector = 'object_store', path = 'x', format = 'json');

CREATE FEATURE SET appends EMIT EVERY INTERVAL '1 hour' WITH (path = 'f/1') AS SELECT rider, fare FROM trips;
CREATE FEATURE SET of_tables EMIT EVERY INTERVAL '1 hour' WITH (path = 'f/2')
AS SELECT home, count(*) AS riders FROM riders GROUP BY home;
CREATE FEATURE SET not_late EMIT EVERY INTERVAL '1 hour' WITH (path = 'f/3')
AS SELECT rider, count(*) AS calls FROM calls GROUP BY rider;
CREATE FEATURE SET no_watermark
EMIT EVERY INTERVAL '1 hour' WITH (path = 'f/4')
AS SELECT t.rider, count(*) AS n FROM trips t JOIN visits v ON t.rider = v.rider GROUP BY t.rider;
