CREATE PIPELINE flights WITH (owner = me);

CREATE SOURCE flights (
    id BIGNIT NOT NULL,
    origin VARCHAR NOT NUL,
    delay DOUBLE,
    WATERMARK FOR scheduled
)
WITH (path = '${NOWHERE}/flights', format = csv);

CREATE VIEW hourly AS SELECT origin, FROM flights;

CREATE FEATURE SET congestion (
    CONSTRAINT sane EXPECT delay < 100,
    CONSTRAINT few EXPECT AGGREGATE (count(*) > 0) ON VIOLATION QUARANTINE
)
ENTITY (origin, origin)
AS SELECT * FROM hourly JOIN wether USING (origin);
