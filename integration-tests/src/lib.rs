//! What the tests and benchmarks of the whole system share: the program as a process, the example's data, the
//! events of Nexmark, committed rows as text, and an S3 server, Kafka brokers, a schema registry and a token endpoint that can be told to misbehave.
//!
//! Nothing here knows the inside of Bessemer: it is driven by its command line and judged by what it leaves on disk.

mod access;
mod bessemer;
mod closing_events;
mod flights;
mod kafka;
mod listening;
mod nexmark_events;
mod numbers;
mod pinned;
mod real_kafka;
mod rows;
mod s3_server;
mod schema_registry;
mod token_endpoint;
mod wait;

pub use access::Permission;
pub use bessemer::{Bessemer, Outcome, says};
pub use closing_events::{CLOSING_SETS, Event, FIRST_MOMENT, deliver, of_partitions, over_topic, record, rounds};
pub use flights::{Flights, Pipeline, SETS, repository};
pub use kafka::KafkaCluster;
pub use listening::{Listening, listened, percent_encoded};
pub use nexmark_events::{NEXMARK_STREAMS, nexmark_events, write_nexmark, write_side_input};
pub use numbers::{
    PARTITIONS, check_every_number, number_partition, number_record, numbers_on_disk, numbers_on_s3, send_numbers,
};
pub use pinned::Pinned;
pub use real_kafka::{NodeCommand, RealKafka, SecureListener, send, send_keyed};
pub use rows::{Kind, Rows, parquet_files, read_set};
pub use s3_server::{Answering, Fault, FaultPlan, S3Server};
pub use schema_registry::{RegistryMood, SchemaRegistry};
pub use token_endpoint::TokenEndpoint;
pub use wait::{pause, signal, wait_until};
