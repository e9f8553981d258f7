CREATE SOURCE flights (
    a INT NOT NUL,
    b INT PRIMARY KEY,
    c INT CHECK (c > 0),
    d INT DEFUALT 3,
    e VARCHAR TAG (pii = 'name'),
    f INT NOT,
    g INT NULL NOT NULL,
    h INT bar
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
