select auction, bidder, 0.908::double * price as price,
       case when hour(date_time) in (7, 19) then 'otherTime'
            when hour(date_time) between 8 and 18 then 'dayTime'
            else 'nightTime' end as bid_time_type,
       date_time, extra, len(list_filter(string_split(extra, ''), lambda letter: letter = 'c')) as c_counts
from bid
where 0.908::double * price > 1e6 and 0.908::double * price < 5e7
