-- the same name again
CREATE VIEW flights AS SELECT 1;
CREATE FEATURE SET g (CONSTRAINT c EXPECT (a >)) WITH (path = 'g') AS SELECT * FROM flight;
