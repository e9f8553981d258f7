-- Query 22, Get URL Directories: the first three folders of each bid's URL.
CREATE FEATURE SET q22 WITH (path = 'features/q22') AS
SELECT auction, bidder, price, channel,
       split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2, split_part(url, '/', 6) AS dir3
FROM bid;
