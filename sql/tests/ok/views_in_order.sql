CREATE FEATURE SET f WITH (path = 'y') AS SELECT * FROM last;
CREATE VIEW last AS SELECT * FROM middle JOIN "First" USING (a);
CREATE VIEW middle AS SELECT * FROM "First";
-- The inner name hides the view of the same name, so this is no cycle.
CREATE VIEW "First" AS WITH last AS (SELECT * FROM s) SELECT * FROM last WHERE EXISTS (SELECT 1 FROM LAST);
CREATE SOURCE s WITH (path = 'x')
