-- The events of Nexmark in topics of JSON records.
CREATE PIPELINE nexmark;

CREATE SOURCE person (
    id BIGINT NOT NULL, name VARCHAR NOT NULL, email_address VARCHAR NOT NULL, credit_card VARCHAR NOT NULL,
    city VARCHAR NOT NULL, state VARCHAR NOT NULL, date_time TIMESTAMP NOT NULL, extra VARCHAR NOT NULL,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'kafka', bootstrap_servers = '${KAFKA_BROKERS:-localhost:9092}', topic = 'person', format = 'json',
        timestamp_format = 'epoch_millis');

CREATE SOURCE auction (
    id BIGINT NOT NULL, item_name VARCHAR NOT NULL, description VARCHAR NOT NULL, initial_bid BIGINT NOT NULL,
    reserve BIGINT NOT NULL, date_time TIMESTAMP NOT NULL, expires TIMESTAMP NOT NULL, seller BIGINT NOT NULL,
    category BIGINT NOT NULL, extra VARCHAR NOT NULL,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'kafka', bootstrap_servers = '${KAFKA_BROKERS:-localhost:9092}', topic = 'auction', format = 'json',
        timestamp_format = 'epoch_millis');

CREATE SOURCE bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel VARCHAR NOT NULL,
    url VARCHAR NOT NULL, date_time TIMESTAMP NOT NULL, extra VARCHAR NOT NULL,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'kafka', bootstrap_servers = '${KAFKA_BROKERS:-localhost:9092}', topic = 'bid', format = 'json',
        timestamp_format = 'epoch_millis');
