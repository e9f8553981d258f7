CREATE SOURCE payments (card VARCHAR NOT NULL, amount BIGINT, at TIMESTAMP NOT NULL)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET cards WITH (path = 'x')
AS SELECT card,
          decayed_sum(card, at, INTERVAL '1 hour') AS spent,
          decayed_count(amount, INTERVAL '1 hour') AS payments,
          top_k(amount) AS amounts,
          skewness(at) AS shape
   FROM payments GROUP BY card;
