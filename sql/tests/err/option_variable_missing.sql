CREATE SOURCE flights WITH (
    path = '${LAEK}/x/${OTHER}',
    a = 'b ${LAKE',
    c = '${}',
    d = '${a b}',
    e = 'ü ${MISSING}'
);
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
