SELECT id, name, p.window.start AS window_start
FROM (SELECT id, name, window FROM person GROUP BY id, name, window(date_time, '10 seconds')) p
JOIN (SELECT seller, window FROM auction GROUP BY seller, window(date_time, '10 seconds')) a
    ON id = seller AND p.window = a.window
