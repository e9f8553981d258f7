CREATE SOURCE flights WITH (
    path = 'x',
    PATH = 'y',
    'path' = 'z'
);
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
