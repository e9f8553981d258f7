CREATE SOURCE flights (
  id BIGINT NOT NULL, delay DOUBLE, at TIMESTAMP,
  late BOOLEAN GENERATED ALWAYS AS (rnd(delay) > 15) STORED,
  day DATE GENERATED ALWAYS AS (delay AND true) STORED,
  WATERMARK FOR at AS at - INTERVAL '5 minutes'
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s WITH (path = 'x') AS SELECT id FROM flights;
