CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f (
    CONSTRAINT a EXPECT (id > 0),
    CONSTRAINT A EXPECT (id > 1),
    CONSTRAINT c EXPECT (id > 1)
    CONSTRAINT b EXPECT (id > 2),
)
WITH (path = 'out')
AS SELECT * FROM flights;
