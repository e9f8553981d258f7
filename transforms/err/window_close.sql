CREATE PIPELINE closing;
CREATE SOURCE trips (rider VARCHAR, fare DOUBLE, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '5 minutes' ON LATE DROP)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE SOURCE calls (rider VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '5 minutes')
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE riders (rider VARCHAR, home VARCHAR) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE VIEW hourly AS
SELECT rider, window_end, count(*) AS trips FROM TUMBLE(trips, at, INTERVAL '1 hour') GROUP BY rider, window_end;

CREATE FEATURE SET no_window EMIT ON WINDOW CLOSE WITH (path = 'f/1')
AS SELECT rider, count(*) AS trips FROM trips GROUP BY rider;
CREATE FEATURE SET no_group EMIT ON WINDOW CLOSE WITH (path = 'f/2')
AS SELECT rider, fare FROM trips;
CREATE FEATURE SET no_source EMIT ON WINDOW CLOSE WITH (path = 'f/3')
AS SELECT home, count(*) AS riders FROM riders GROUP BY home;
CREATE FEATURE SET no_late EMIT ON WINDOW CLOSE WITH (path = 'f/4')
AS SELECT window_end, count(*) AS calls FROM TUMBLE(calls, at, INTERVAL '1 hour') GROUP BY window_end;
CREATE FEATURE SET sessions EMIT ON WINDOW CLOSE WITH (path = 'f/5')
AS SELECT rider, window_start, count(*) AS trips FROM SESSION(trips PARTITION BY rider, at, INTERVAL '1 hour')
GROUP BY rider, window_start;
CREATE FEATURE SET across EMIT ON WINDOW CLOSE WITH (path = 'f/6')
AS SELECT rider, max(trips) AS most FROM hourly GROUP BY rider;
CREATE FEATURE SET ranked EMIT ON WINDOW CLOSE WITH (path = 'f/7')
AS SELECT rider, window_end, rank() OVER (ORDER BY trips) AS place FROM hourly;
CREATE FEATURE SET first_trips EMIT ON WINDOW CLOSE WITH (path = 'f/8')
AS SELECT DISTINCT ON (rider) rider, at, fare FROM trips ORDER BY rider, at, fare;
CREATE FEATURE SET everybody EMIT ON WINDOW CLOSE WITH (path = 'f/15')
AS SELECT t.at, t.rider, c.rider AS caller FROM trips t FULL JOIN trips c ON t.rider = c.rider AND t.at = c.at;
CREATE FEATURE SET ordered EMIT ON WINDOW CLOSE WITH (path = 'f/9')
AS SELECT window_end, trips FROM hourly ORDER BY trips LIMIT 3;
CREATE FEATURE SET expected (CONSTRAINT enough EXPECT AGGREGATE (count(*) > 1) PER RUN ON VIOLATION FAIL)
EMIT ON WINDOW CLOSE WITH (path = 'f/10')
AS SELECT window_end, trips FROM hourly;
CREATE FEATURE SET ever EMIT ON WINDOW CLOSE WITH (path = 'f/11')
AS SELECT rider, at, sum(fare) OVER (PARTITION BY rider ORDER BY at) AS spent FROM trips;
CREATE FEATURE SET next EMIT ON WINDOW CLOSE WITH (path = 'f/12')
AS SELECT rider, at, lead(at) OVER (PARTITION BY rider ORDER BY at) AS next FROM trips;
CREATE FEATURE SET unbounded EMIT ON WINDOW CLOSE WITH (path = 'f/13')
AS SELECT a.rider, a.at, b.fare FROM trips a JOIN trips b ON a.rider = b.rider AND b.at < a.at;
CREATE FEATURE SET listed EMIT ON WINDOW CLOSE WITH (path = 'f/14')
AS SELECT rider, at, lag(at) OVER (PARTITION BY rider ORDER BY at) AS before FROM trips
WHERE rider IN (SELECT rider FROM trips WHERE fare > 10);
CREATE SOURCE tagged (rider VARCHAR, tags VARCHAR[], at TIMESTAMP, WATERMARK FOR at AS at ON LATE DROP)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET tags_before EMIT ON WINDOW CLOSE WITH (path = 'f/16')
AS SELECT rider, at, lag(tags) OVER (PARTITION BY rider ORDER BY at) AS before FROM tagged;
