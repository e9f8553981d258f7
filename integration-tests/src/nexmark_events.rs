//! The events of Nexmark, the benchmark of an auction site: the same for the same numbers, on every machine.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;

/// The streams of events: sources of the pipelines in `integration-tests/nexmark`, and topics.
pub const NEXMARK_STREAMS: [&str; 3] = ["person", "auction", "bid"];

/// 2024-12-31 23:58:20, in milliseconds since 1970: the first minutes of events are of two days.
const FIRST_MOMENT: u64 = 1_735_689_500_000;
/// Slow enough that each event has a time of its own, which settles every tie.
const EVENTS_PER_SECOND: usize = 100;
/// How many events come in an order of their own: those of a second.
const DISORDER: usize = 100;
/// Keys of the side input, which knows nine of ten.
const SIDE_INPUT_KEYS: u64 = 10_000;

/// Events by their numbers, as the index of their stream and a record of JSON.
pub fn nexmark_events(numbers: Range<u64>) -> impl Iterator<Item = Result<(usize, String)>> {
    let config = NexmarkConfig {
        base_time: FIRST_MOMENT,
        first_rate: EVENTS_PER_SECOND,
        next_rate: EVENTS_PER_SECOND,
        out_of_order_group_size: DISORDER,
        ..NexmarkConfig::default()
    };
    let events = EventGenerator::new(config).with_offset(numbers.start);
    numbers.zip(events).map(|(_, event)| {
        Ok(match event {
            Event::Person(person) => (0, serde_json::to_string(&person)?),
            Event::Auction(auction) => (1, serde_json::to_string(&auction)?),
            Event::Bid(bid) => (2, serde_json::to_string(&bid)?),
        })
    })
}

/// Writes events as JSON lines, `files` files of each stream, and the side input.
pub fn write_nexmark(folder: &Path, events: u64, files: u64) -> Result<()> {
    fs::create_dir_all(folder)?;
    for file in 0..files {
        let create = |stream: &str| File::create(folder.join(format!("{stream}-{file:04}.json"))).map(BufWriter::new);
        let mut out = NEXMARK_STREAMS.iter().map(|stream| create(stream)).collect::<std::io::Result<Vec<_>>>()?;
        for event in nexmark_events(events * file / files..events * (file + 1) / files) {
            let (stream, record) = event?;
            writeln!(out[stream], "{record}")?;
        }
        out.iter_mut().try_for_each(Write::flush)?;
    }
    write_side_input(folder)
}

/// Writes the table that query 13 looks bids up in.
pub fn write_side_input(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut out = BufWriter::new(File::create(folder.join("side_input.csv"))?);
    writeln!(out, "key,value")?;
    for key in (0..SIDE_INPUT_KEYS).filter(|key| key % 10 != 0) {
        writeln!(out, "{key},value {key}")?;
    }
    out.flush().context("cannot finish the side input")
}
