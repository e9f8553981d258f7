-- Query 3, Local Item Suggestion: who sells in Oregon, Idaho or California, in category 10?
CREATE FEATURE SET q3 WITH (path = 'features/q3') AS
SELECT p.name, p.city, p.state, a.id
FROM auction a JOIN person p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca');
