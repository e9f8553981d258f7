CREATE TABLE flights (at TIMESTAMP, WATERMARK FOR at) WITH (path = 'x');
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
