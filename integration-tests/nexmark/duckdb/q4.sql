with winners as (
    select category, (select max(price) from bid where auction = a.id and date_time between a.date_time and expires) as final
    from auction a
)
select category, avg(final) as final from winners where final is not null group by all
