select auction.* exclude (date_time, extra), auction.date_time, auction.extra,
       bidder, price, bid.date_time as bid_date_time, bid.extra as bid_extra
from auction join bid on auction.id = bid.auction and bid.date_time >= auction.date_time and bid.date_time <= expires
where not exists (
    from bid better
    where better.auction = auction.id and better.date_time >= auction.date_time and better.date_time <= expires
      and (better.price > bid.price or better.price = bid.price and better.date_time < bid.date_time)
)
