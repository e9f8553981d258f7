CREATE SOURCE flights (
    a TIMESTAMP DEFAULT now(),
    b VARCHAR DEFAULT "x",
    c INT DEFAULT 1 + 1,
    d INT DEFAULT,
    e VARCHAR DEFAULT unknown NOT NULL
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
