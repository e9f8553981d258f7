select date_time::date::varchar as day,
       count(*) as total_bids,
       count_if(price < 10000) as rank1_bids,
       count_if(price between 10000 and 999999) as rank2_bids,
       count_if(price > 999999) as rank3_bids,
       count(distinct bidder) as total_bidders,
       count(distinct if(price < 10000, bidder, null)) as rank1_bidders,
       count(distinct if(price between 10000 and 999999, bidder, null)) as rank2_bidders,
       count(distinct if(price > 999999, bidder, null)) as rank3_bidders,
       count(distinct auction) as total_auctions,
       count(distinct if(price < 10000, auction, null)) as rank1_auctions,
       count(distinct if(price between 10000 and 999999, auction, null)) as rank2_auctions,
       count(distinct if(price > 999999, auction, null)) as rank3_auctions
from bid
group by all
