select auction, bidder, price, channel,
       coalesce(
           nullif(list_position(['apple', 'google', 'facebook', 'baidu'], lower(channel)) - 1, -1)::varchar,
           nullif(regexp_extract(url, '(&|^)channel_id=([^&]*)', 2), '')
       ) as channel_id
from bid
where channel_id is not null
