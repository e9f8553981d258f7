SELECT auction, bidder, price, date_time, extra
FROM bid
JOIN (SELECT window, max(price) AS highest FROM bid GROUP BY window(date_time, '10 seconds'))
    ON price = highest AND date_time >= window.start AND date_time < window.end
