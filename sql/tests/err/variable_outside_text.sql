CREATE SOURCE flights WITH (path = ${LAKE});
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights WHERE id > ${MIN};
