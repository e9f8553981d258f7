CREATE SOURCE flights WITH (path = 'x') INCLUDE PATH;
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
