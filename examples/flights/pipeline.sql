-- Flights out of New York: what a model that predicts delays would train on.
-- Try it:  bessemer run examples/flights

CREATE PIPELINE flights;

-- A source is a log: each file is read once, and a new file is all that the next run reads.
CREATE SOURCE flights (
    year INT NOT NULL, month INT NOT NULL, day INT NOT NULL,
    dep_time INT, sched_dep_time INT NOT NULL, dep_delay INT,
    arr_time INT, sched_arr_time INT NOT NULL, arr_delay INT,
    carrier VARCHAR NOT NULL, flight INT NOT NULL, tailnum VARCHAR,
    origin VARCHAR NOT NULL, dest VARCHAR NOT NULL,
    air_time INT, distance INT NOT NULL, hour INT NOT NULL, minute INT NOT NULL,
    time_hour TIMESTAMPTZ NOT NULL
) WITH (connector = 'object_store', path = 'data/flights*.csv*', format = 'csv', null_values = 'NA');

CREATE SOURCE weather (
    origin VARCHAR NOT NULL, year INT, month INT, day INT, hour INT,
    temp DOUBLE, dewp DOUBLE, humid DOUBLE, wind_dir INT, wind_speed DOUBLE, wind_gust DOUBLE,
    precip DOUBLE, pressure DOUBLE, visib DOUBLE, time_hour TIMESTAMPTZ NOT NULL
) WITH (connector = 'object_store', path = 'data/weather*.csv*', format = 'csv', null_values = 'NA');

-- A table is a snapshot: its whole content as it stands when a run begins.
CREATE TABLE planes (
    tailnum VARCHAR NOT NULL, year INT, type VARCHAR, manufacturer VARCHAR, model VARCHAR,
    engines INT, seats INT, speed INT, engine VARCHAR
) WITH (connector = 'object_store', path = 'data/planes.csv.gz', format = 'csv', null_values = 'NA');

CREATE TABLE airports (
    faa VARCHAR NOT NULL, name VARCHAR NOT NULL, lat DOUBLE, lon DOUBLE, alt INT, tz INT, dst VARCHAR, tzone VARCHAR
) WITH (connector = 'object_store', path = 'data/airports.csv.gz', format = 'csv', null_values = 'NA');

CREATE TABLE airlines (carrier VARCHAR NOT NULL, name VARCHAR NOT NULL)
WITH (connector = 'object_store', path = 'data/airlines.csv.gz', format = 'csv');

-- Flights by scheduled departure. No departure time means cancelled; no arrival delay means cancelled or diverted.
CREATE VIEW departures AS
SELECT make_date(year, month, day) AS flight_day, time_hour AS scheduled, origin, dest, carrier, flight, tailnum,
       dep_time IS NULL AS cancelled, dep_delay, arr_delay, air_time, distance, year
FROM flights;

CREATE VIEW hourly_departures AS
SELECT origin, scheduled, count(*) AS departures, count(*) FILTER (WHERE cancelled) AS cancellations,
       avg(dep_delay) AS mean_dep_delay, max(dep_delay) AS max_dep_delay
FROM departures
GROUP BY origin, scheduled;

-- How punctual is a carrier on a day? A GROUP BY has no final rows, so the set is a snapshot, replaced in one commit.
CREATE FEATURE SET carrier_punctuality (
    CONSTRAINT enough_flights EXPECT (flights >= 5) ON VIOLATION WARN,
    CONSTRAINT not_grounded   EXPECT (cancellations < flights) ON VIOLATION QUARANTINE,
    CONSTRAINT all_carriers   EXPECT AGGREGATE (count(DISTINCT carrier) >= 10) ON VIOLATION FAIL
)
ENTITY (carrier) EVENT TIME (flight_day)
WITH (path = 'features/carrier_punctuality', partition_by = 'month(flight_day)')
AS SELECT d.carrier, a.name AS airline, d.flight_day, count(*) AS flights,
          count(*) FILTER (WHERE d.cancelled) AS cancellations,
          avg(d.dep_delay) AS mean_dep_delay, avg(d.arr_delay) AS mean_arr_delay, max(d.arr_delay) AS max_arr_delay,
          avg(CASE WHEN d.arr_delay <= 15 THEN 1.0 WHEN d.arr_delay > 15 THEN 0.0 END) AS on_time_share,
          sum(d.distance) AS miles
   FROM departures d JOIN airlines a ON d.carrier = a.carrier
   GROUP BY d.carrier, a.name, d.flight_day;

-- How busy is an airport in an hour, and in what weather? The weather station has gaps, and a sensor with a bad hour.
CREATE FEATURE SET airport_congestion (
    CONSTRAINT known_weather   EXPECT (temp IS NOT NULL) ON VIOLATION WARN,
    CONSTRAINT believable_wind EXPECT (wind_speed < 200) ON VIOLATION QUARANTINE,
    CONSTRAINT mostly_weather  EXPECT AGGREGATE (count(temp) > 0.9 * count(*)) ON VIOLATION FAIL
)
ENTITY (origin) EVENT TIME (scheduled)
WITH (path = 'features/airport_congestion', partition_by = 'origin')
AS SELECT coalesce(h.origin, w.origin) AS origin, coalesce(h.scheduled, w.time_hour) AS scheduled,
          coalesce(h.departures, 0) AS departures, coalesce(h.cancellations, 0) AS cancellations,
          h.mean_dep_delay, h.max_dep_delay,
          w.temp, w.humid, w.wind_dir, w.wind_speed, w.wind_gust, w.precip, w.pressure, w.visib
   FROM hourly_departures h
   FULL JOIN weather w ON h.origin = w.origin AND h.scheduled = w.time_hour; -- nights have weather, too

-- What flew, how far, how late? A row is final when its flight is read, so the set appends: a new file adds its rows.
CREATE FEATURE SET plane_history (
    CONSTRAINT has_tailnum      EXPECT (tailnum IS NOT NULL) ON VIOLATION QUARANTINE,
    CONSTRAINT has_left         EXPECT (NOT cancelled) ON VIOLATION DROP ROW,
    CONSTRAINT us_registration  EXPECT (tailnum LIKE 'N%') ON VIOLATION QUARANTINE,
    CONSTRAINT an_airliner      EXPECT (seats >= 20) ON VIOLATION QUARANTINE, -- the registry knows some as helicopters
    CONSTRAINT believable_speed EXPECT (miles_per_hour BETWEEN 60 AND 650) ON VIOLATION QUARANTINE,
    CONSTRAINT known_plane      EXPECT (seats IS NOT NULL) ON VIOLATION WARN,
    CONSTRAINT mostly_known     EXPECT AGGREGATE (count(seats) > 0.75 * count(*)) PER RUN ON VIOLATION FAIL
)
ENTITY (tailnum) EVENT TIME (scheduled)
WITH (path = 'features/plane_history', partition_by = 'day(scheduled)', format = 'delta')
AS SELECT d.tailnum, d.scheduled, d.carrier, d.flight, d.origin, d.dest, a.name AS dest_name, a.tzone AS dest_tzone,
          d.cancelled, d.dep_delay, d.arr_delay, d.air_time, d.distance,
          d.distance * 60.0 / d.air_time AS miles_per_hour,
          p.manufacturer, p.model, p.engine, p.seats, d.year - p.year AS age_years
   FROM departures d
   LEFT JOIN planes p ON d.tailnum = p.tailnum
   LEFT JOIN airports a ON d.dest = a.faa;
