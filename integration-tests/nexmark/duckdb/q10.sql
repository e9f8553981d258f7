select auction, bidder, price, date_time, extra, date_time::date::varchar as dt, left(date_time::time::varchar, 5) as hm from bid
