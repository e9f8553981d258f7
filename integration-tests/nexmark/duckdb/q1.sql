select auction, bidder, price * 0.908::double as price, date_time, extra from bid
