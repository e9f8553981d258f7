select auction, bidder, price, date_time, extra
from bid
qualify price = max(price) over (partition by time_bucket(interval 10 seconds, date_time))
