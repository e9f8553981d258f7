-- Query 10, Log to File System: the bids in a folder for each minute.
CREATE FEATURE SET q10 WITH (path = 'features/q10', partition_by = 'dt, hm') AS
SELECT auction, bidder, price, date_time, extra,
       to_char(date_time, '%Y-%m-%d') AS dt, to_char(date_time, '%H:%M') AS hm
FROM bid;
