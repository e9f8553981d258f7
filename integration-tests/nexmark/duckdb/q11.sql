with begun as (
    select bidder, date_time, date_time - lag(date_time) over mine < interval 10 seconds as goes_on
    from bid
    window mine as (partition by bidder order by date_time)
), numbered as (
    select bidder, date_time, count(*) filter (goes_on is not true) over (partition by bidder order by date_time) as session
    from begun
)
select bidder, count(*) as bid_count, min(date_time) as window_start, max(date_time) + interval 10 seconds as window_end
from numbered
group by bidder, session
