select auction, date_time::date::varchar as day, count(*) as total_bids, count_if(price < 10000) as rank1_bids,
       count_if(price between 10000 and 999999) as rank2_bids, count_if(price > 999999) as rank3_bids,
       min(price) as min_price, max(price) as max_price, sum(price) / count(*) as avg_price, sum(price)::bigint as sum_price
from bid
group by all
