-- A bid is in the window that began at most two seconds ago, and in the four before it.
with counts as (
    select auction, time_bucket(interval 2 seconds, date_time) - n * interval 2 seconds as window_start, count(*) as num
    from bid, range(5) as earlier(n)
    group by all
)
select auction, num, window_start from counts qualify num = max(num) over (partition by window_start)
