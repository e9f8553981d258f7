CREATE SOURCE flights (id BIGINT, origin VARCHAR, delay DOUBLE, at TIMESTAMP) WITH (path = 'flights/');
CREATE FEATURE SET f ENTITY (id, origin, ID) WITH (path = 'x') AS SELECT * FROM flights;
CREATE FEATURE SET g ENTITY () EVENT TIME (at) AS SELECT * FROM flights;
CREATE FEATURE SET h ENTITY (lower(origin), 'id') AS SELECT * FROM flights;
CREATE FEATURE SET i EVENT TIME (at, id) AS SELECT * FROM flights;
CREATE FEATURE SET j EVENT TIME at AS SELECT * FROM flights;
