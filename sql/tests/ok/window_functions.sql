CREATE SOURCE trips (id BIGINT, rider VARCHAR, at TIMESTAMP, WATERMARK FOR at) WITH (path = 'trips/');
CREATE VIEW hop AS SELECT * FROM HOP(trips, at, INTERVAL '1 minute', INTERVAL '1 hour');
-- A name of a window function may still be a name.
CREATE FEATURE SET f WITH (path = 'out') AS
WITH tumble (id, session) AS (SELECT id, rider AS session FROM hop)
SELECT t.session, w.window_start
FROM TABLE(TUMBLE(TABLE trips, DESCRIPTOR(at), INTERVAL '1' HOUR)) AS w
JOIN tumble t ON t.id = w.id
JOIN TABLE(SESSION(DATA => TABLE trips PARTITION BY rider, TIMECOL => DESCRIPTOR(at), GAP => INTERVAL '5' MINUTES)) s
  ON s.id = w.id;
