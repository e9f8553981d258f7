CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f (
    CONSTRAINT a EXPECT (count(*) > 0),
    CONSTRAINT b EXPECT (id IN (SELECT id FROM flights)),
    CONSTRAINT c EXPECT (row_number() OVER (ORDER BY at) = 1),
    CONSTRAINT d EXPECT (at < now()),
    CONSTRAINT e EXPECT AGGREGATE (max(at) > current_timestamp)
)
WITH (path = 'out')
AS SELECT * FROM flights;
