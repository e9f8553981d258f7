select name, city, state, auction.id
from person, auction
where person.id = seller and category = 10 and (state = 'or' or state = 'id' or state = 'ca')
