CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f (
    EXPECT (id > 0),
    CONSTRAINT EXPECT (id > 0),
    CONSTRAINT a CHECK (id > 0),
    CONSTRAINT b EXPECT id > 0,
    CONSTRAINT c EXPCT (id > 0),
    CONSTRAINT d EXPECT (id >),
    CONSTRAINT e EXPECT (),
    CONTRAINT g EXPECT (id > 0),
    CONSTRAINT h EXPECT FRESH WITHIN INTERVAL '1 hour'
)
WITH (path = 'out')
AS SELECT * FROM flights;
