with winners as (
    select seller, auction.id, max_by(bid, (price, -epoch_us(bid.date_time))) as bid
    from auction join bid on auction.id = bid.auction and bid.date_time >= auction.date_time and bid.date_time <= expires
    group by all
)
select seller, id as auction,
       list_avg(list_transform(list_reverse_sort(list((bid.date_time, bid.price)) over earlier)[:11], lambda it: it[2])) as avg_price
from winners
window earlier as (partition by seller order by bid.date_time range between unbounded preceding and current row)
