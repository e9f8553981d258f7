-- The events of Nexmark in files of JSON lines.
CREATE PIPELINE nexmark;

CREATE SOURCE person (
    id BIGINT NOT NULL, name VARCHAR NOT NULL, email_address VARCHAR NOT NULL, credit_card VARCHAR NOT NULL,
    city VARCHAR NOT NULL, state VARCHAR NOT NULL, date_time TIMESTAMP NOT NULL, extra VARCHAR NOT NULL,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (path = 'events/person-*.json', format = 'json', timestamp_format = 'epoch_millis');

CREATE SOURCE auction (
    id BIGINT NOT NULL, item_name VARCHAR NOT NULL, description VARCHAR NOT NULL, initial_bid BIGINT NOT NULL,
    reserve BIGINT NOT NULL, date_time TIMESTAMP NOT NULL, expires TIMESTAMP NOT NULL, seller BIGINT NOT NULL,
    category BIGINT NOT NULL, extra VARCHAR NOT NULL,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (path = 'events/auction-*.json', format = 'json', timestamp_format = 'epoch_millis');

CREATE SOURCE bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel VARCHAR NOT NULL,
    url VARCHAR NOT NULL, date_time TIMESTAMP NOT NULL, extra VARCHAR NOT NULL,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (path = 'events/bid-*.json', format = 'json', timestamp_format = 'epoch_millis');
