select distinct on (bidder, auction) auction, bidder, price, channel, url, date_time, extra
from bid
order by bidder, auction, date_time desc
