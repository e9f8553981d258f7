CREATE SOURCE flights WITH (
    path,
    format =,
    a == 'x',
    b : 'y',
    c-d = 'z',
    e 'f',
    = 'g',
    aws. = 'h'
);
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
