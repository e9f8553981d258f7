CREATE SOURCE flights (
    order INT,
    end TIMESTAMP,
    'a' INT,
    1st INT
)
WITH (path = 'flights/');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
