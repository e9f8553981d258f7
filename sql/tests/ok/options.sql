CREATE SOURCE s WITH (
    path = '${LAKE}/a/${MISSING:-b}/${EMPTY:-c}/${LAKE:-d}',
    plain = 'no $ variable { here }',
    NUMBER = 42, negative = -1, fraction = 0.5, grouped = 1_000_000,
    yes = true, no = FALSE,
    aws.region = 'eu-west-1', 'gcs.bucket' = 'b', "http.timeout" = '30s',
    delimiter = E'\t', quote = '''',
    password = secret('AWS_SECRET')
);
CREATE FEATURE SET f WITH (path = 'y') AS SELECT * FROM s;
