CREATE SOURCE flights WITH (
    path = flights,
    url = s3://bucket/x,
    size = 64MiB,
    header = ture,
    file = "x.csv",
    age = INTERVAL '1' HOUR,
    none = NULL,
    day = 2013-01-01
);
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
