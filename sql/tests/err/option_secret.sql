CREATE SOURCE flights WITH (
    a = secret('NOT_SET'),
    b = secret(AWS_SECRET),
    c = secret 'AWS_SECRET',
    d = secret('AWS_SECRET', 'x'),
    e = secret()
);
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
