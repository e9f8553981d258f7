WITH counts AS (
    SELECT auction, window.start AS window_start, count(*) AS num
    FROM bid
    GROUP BY auction, window(date_time, '10 seconds', '2 seconds')
)
SELECT auction, num, window_start
FROM (SELECT *, max(num) OVER (PARTITION BY window_start) AS most FROM counts)
WHERE num = most
