select auction, bidder, price, channel, dirs[4] as dir1, dirs[5] as dir2, dirs[6] as dir3
from (select *, string_split(url, '/') as dirs from bid)
