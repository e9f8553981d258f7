select bidder, auction, price, date_time,
       count(*) over last_minute as bids_1_minute,
       (sum(price) over last_minute)::bigint as sum_1_minute,
       count(*) over last_10_minutes as bids_10_minutes,
       avg(price) over last_10_minutes as mean_10_minutes,
       lag(price) over one_by_one as price_before
from bid
window last_minute as (partition by bidder order by date_time range between interval 1 minute preceding and current row),
       last_10_minutes as (partition by bidder order by date_time range between interval 10 minutes preceding and current row),
       one_by_one as (partition by bidder order by date_time)
