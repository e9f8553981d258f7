-- The demonstration: flights out of New York, as they come in.
CREATE PIPELINE demo;

SET epoch_age_max = '1s';

CREATE SOURCE flights (
    carrier VARCHAR NOT NULL, flight INT NOT NULL, tailnum VARCHAR, origin VARCHAR NOT NULL, dest VARCHAR NOT NULL,
    dep_delay INT, arr_delay INT, distance INT NOT NULL, scheduled TIMESTAMPTZ NOT NULL
)
INCLUDE PARTITION AS kafka_partition, OFFSET AS kafka_offset
WITH (connector = 'kafka', bootstrap_servers = '${BOOTSTRAP_SERVERS}', topic = 'flights', format = 'json');

-- A row for each flight that left. It appends: a row is final when its record is read.
CREATE FEATURE SET departures (
    CONSTRAINT has_left         EXPECT (dep_delay IS NOT NULL) ON VIOLATION DROP ROW,
    CONSTRAINT known_plane      EXPECT (tailnum IS NOT NULL) ON VIOLATION QUARANTINE,
    CONSTRAINT believable_delay EXPECT (dep_delay BETWEEN -60 AND 1500) ON VIOLATION QUARANTINE
)
ENTITY (tailnum) EVENT TIME (scheduled)
WITH (path = 'features/departures', partition_by = 'origin')
AS SELECT tailnum, scheduled, carrier, flight, origin, dest, dep_delay, arr_delay, distance, kafka_partition, kafka_offset
   FROM flights;

-- How late is each carrier so far? A GROUP BY has no final rows: the set is replaced with every commit.
CREATE FEATURE SET carriers ENTITY (carrier)
WITH (path = 'features/carriers')
AS SELECT carrier, count(*) AS flights, count(*) FILTER (WHERE dep_delay > 15) AS late,
          round(avg(dep_delay), 1) AS mean_delay, max(dep_delay) AS max_delay
   FROM flights GROUP BY carrier;
