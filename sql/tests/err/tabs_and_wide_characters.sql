CREATE SOURCE flights (
	id	BIGNIT,
	"航班号" VARCHR,
	"é😀" INT DEFALT 3
) WITH (path = 'x', aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa = 'y', 航班 = ture, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb = 'z', c = 1);
CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM flights;
