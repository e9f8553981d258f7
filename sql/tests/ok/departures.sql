-- A whole pipeline, as a newcomer would write it.
CREATE PIPELINE departures WITH (owner = 'flights-team', retries = 3, verbose = TRUE, timeout = INTERVAL '30 minutes');

SET target_partitions = 4;
SET memory.limit = '1GiB';

CREATE SOURCE flights (
    flight_id   BIGINT    NOT NULL,
    origin      VARCHAR   NOT NULL DEFAULT 'JFK',
    tailnum     VARCHAR   NULL,
    dep_delay   DOUBLE    DEFAULT -1.5,
    scheduled   TIMESTAMP NOT NULL,
    day         DATE      GENERATED ALWAYS AS (CAST(scheduled AS DATE)) STORED,
    WATERMARK FOR scheduled AS scheduled - INTERVAL '5 minutes'
)
INCLUDE PATH AS file, ROW AS line
INCLUDE MODIFIED
WITH (connector = 'object_store', path = '${LAKE}/flights/*.csv', format = 'csv', 'csv.header' = true);

CREATE SOURCE weather WITH (connector = 'object_store', path = 's3://lake/weather/', format = 'parquet');

CREATE TABLE planes (tailnum TEXT NOT NULL, year SMALLINT, seats INT DEFAULT 0)
WITH (path = 's3://lake/planes.csv', format = 'csv', aws.secret_access_key = secret('AWS_SECRET'));

CREATE VIEW hourly AS
SELECT origin, date_trunc('hour', scheduled) AS hour, count(*) AS departures, avg(dep_delay) AS mean_delay
FROM flights
GROUP BY 1, 2;

CREATE FEATURE SET origin_congestion (
    CONSTRAINT sane_delay   EXPECT (mean_delay BETWEEN -120 AND 2000) ON VIOLATION QUARANTINE,
    CONSTRAINT some_rows    EXPECT (departures > 0),
    CONSTRAINT few_holes    EXPECT AGGREGATE (count(mean_delay) > 0.9 * count(*)) ON VIOLATION FAIL,
    CONSTRAINT enough       EXPECT AGGREGATE (count(*) > 10) PER RUN ON VIOLATION WARN
)
ENTITY (origin) EVENT TIME (hour)
WITH (path = 's3://features/origin_congestion/', partition_by = 'day(hour)', format = 'delta')
AS SELECT h.*, w.wind_speed FROM hourly h LEFT JOIN weather w ON h.origin = w.origin AND h.hour = w.time_hour;

CREATE FEATURE SET plane_history
WITH (path = './features/planes')
EVENT TIME (scheduled)
ENTITY (tailnum, flight_id)
AS
WITH planes AS (SELECT * FROM planes WHERE seats > 0)
SELECT f.tailnum, f.flight_id, f.scheduled, p.seats FROM flights AS f JOIN planes AS p USING (tailnum);
