CREATE SOURCE used (a VARCHAR(3)) WITH (path = 'x');
CREATE SOURCE unused WITH (path = 'x');
CREATE TABLE lonely WITH (path = 'x');
CREATE VIEW idle AS SELECT * FROM used;
CREATE FEATURE SET f (CONSTRAINT c EXPECT (a <> '${LAKE}')) WITH (path = 'y') AS SELECT a FROM used WHERE a = '${CARRIER}';
