CREATE SOURCE flights WITH (
    path = 'it's',
    format = 'csv'
);
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
