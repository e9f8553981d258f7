with ranked as (
    select auction, unnest(list(bid order by price desc, date_time)) as bid, generate_subscripts(list(bid), 1) as rank_number
    from bid
    group by auction
)
select unnest(bid), rank_number from ranked where rank_number <= 10
