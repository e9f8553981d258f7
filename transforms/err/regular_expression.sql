CREATE SOURCE flights (id BIGINT, carrier VARCHAR) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET s WITH (path = 'x') AS SELECT id FROM flights WHERE carrier ~ '(';
