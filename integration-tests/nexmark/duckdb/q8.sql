select distinct person.id, name, time_bucket(interval 10 seconds, person.date_time) as window_start
from person, auction
where seller = person.id and time_bucket(interval 10 seconds, auction.date_time) = window_start
