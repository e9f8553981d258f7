select auction, bidder, price, date_time, value from bid, side_input where key = mod(auction, 10000)
