CREATE SOURCE flights (
    a INT,
    PRIMARY KEY (a),
    CONSTRAINT c CHECK (a > 0),
    UNIQUE (a)
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
