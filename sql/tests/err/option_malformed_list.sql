CREATE SOURCE flights WITH (
    path = 'x'
    format = 'csv',,
    a = 'b',
);
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
