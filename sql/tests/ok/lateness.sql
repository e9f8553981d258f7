CREATE SOURCE flights (
    id BIGINT,
    at TIMESTAMP,
    WATERMARK FOR at AS at - INTERVAL '1 hour 30 minutes' ON LATE QUARANTINE
)
WITH (path = 'flights/');
CREATE SOURCE boardings (at TIMESTAMPTZ, WATERMARK FOR at ON LATE DROP, gate VARCHAR) WITH (path = 'boardings/');
CREATE SOURCE bags (id BIGINT, WATERMARK FOR sent AS "sent" on late drop)
INCLUDE TIMESTAMP AS sent WITH (connector = 'kafka', topic = 'bags');
CREATE SOURCE gates (at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 month') WITH (path = 'gates/');
CREATE FEATURE SET hourly
EMIT ON WINDOW CLOSE
ENTITY (window_start)
WITH (path = 'out')
AS SELECT window_start, count(*) AS flights FROM TUMBLE(flights, at, INTERVAL '1 hour') GROUP BY window_start, window_end;
CREATE FEATURE SET emit WITH (path = 'out/emit') AS
SELECT b.at AS emit, g.at AS close FROM boardings b JOIN bags ON b.gate = b.gate JOIN gates g ON g.at = b.at;
