//! Reading text formats: stored bytes, decompressed, framed and decoded strictly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bessemer_schemas::RejectReason;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::{BoxStream, StreamExt};
use memchr::memrchr;

use super::options::{CompressionChoice, ObjectSourceOptions};
use super::pinned::PinnedObject;
use super::read_plan::Numbers;
use super::scan_piece::PieceSink;
use crate::formats::compression::Compression;
use crate::formats::text::{DecodeLimits, EventTimeBounds, FileFault, TextDecoder, TextDecoderOptions, TextFormat};
use crate::scan::is_dropped;
use crate::{Error, Result};

/// Decompressed bytes that are decoded before what came of them is taken: bounds the rows and rejects that wait.
const FEED_BYTES: usize = 64 << 10;

/// Bytes that tell how an object is compressed.
const HEAD: u64 = 8;

/// The decompressed bytes of an object. `stored` counts the bytes that were read for them.
pub(super) async fn text_chunks(
    object: &PinnedObject,
    options: &ObjectSourceOptions,
    stored: Arc<AtomicU64>,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let mut chunks = object.chunks();
    // The first chunk tells the compression: a second request for the head would cost a store's latency.
    let first = chunks.try_next().await?.unwrap_or_default();
    let head = first.slice(..first.len().min(usize::try_from(HEAD).unwrap_or(0)));
    let compression = compression(object, options.compression, &head)?;
    let chunks = futures::stream::iter([Ok(first)]).chain(chunks).inspect_ok(move |chunk: &Bytes| {
        stored.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    });
    Ok(compression.decompress(object.path(), chunks.boxed()))
}

fn compression(object: &PinnedObject, choice: CompressionChoice, head: &[u8]) -> Result<Compression> {
    let (compression, said_by) = match choice {
        CompressionChoice::Always(compression) => (compression, "option `compression` says"),
        CompressionChoice::Auto => match Compression::of_name(object.path()).0 {
            Compression::None => (Compression::of_head(head), "its name says"),
            compression => (compression, "its name says"),
        },
    };
    if compression.begins(head) {
        return Ok(compression);
    }
    let format = compression.name();
    let reason = format!("{said_by} {format}, but it does not begin as {format} does; see option `compression`");
    Err(Error::BadFile { path: object.path().to_owned(), format, offset: 0, reason })
}

/// Reads one object into `sink`.
pub(super) async fn read(object: &PinnedObject, format: &TextFormat, sink: &mut PieceSink<'_>) -> Result<()> {
    let stored = Arc::new(AtomicU64::new(0));
    let mut chunks = text_chunks(object, sink.source().options(), Arc::clone(&stored)).await?;
    let mut decoder = decoder(format, sink)?;
    if sink.is_check() {
        let checked = check(&mut decoder, chunks).await?;
        return checked.map_err(|fault| failed(object, format, sink, fault));
    }
    while let Some(chunk) = chunks.try_next().await? {
        sink.progress(stored.swap(0, Ordering::Relaxed), 0);
        for piece in pieces(&chunk) {
            let fed = decoder.feed(piece);
            drain(&mut decoder, object, format, sink).await?;
            fed.map_err(|fault| failed(object, format, sink, fault))?;
        }
    }
    let counts = decoder.finish_object().map_err(|fault| failed(object, format, sink, fault))?;
    drain(&mut decoder, object, format, sink).await?;
    sink.count_undecodable(counts.rejected - counts.bad_event_times - counts.late);
    sink.count_bad_event_times(counts.bad_event_times);
    sink.count_late(counts.late);
    sink.note_newest(counts.event_time_max);
    Ok(())
}

/// Finds what makes a whole object unreadable. Records that cannot be decoded are rejects, so that is the compression,
/// anywhere, or what stands before the first record: bytes that no text has, a header that does not fit.
async fn check(
    decoder: &mut TextDecoder,
    mut chunks: BoxStream<'static, Result<Bytes>>,
) -> Result<std::result::Result<(), FileFault>> {
    while let Some(chunk) = chunks.try_next().await? {
        for piece in pieces(&chunk) {
            if decoder.is_past_header() {
                break;
            }
            if let Err(fault) = decoder.feed(piece) {
                return Ok(Err(fault));
            }
        }
    }
    Ok(if decoder.is_past_header() { Ok(()) } else { decoder.finish_object().map(drop) })
}

/// The pieces of a chunk, cut after a line where they can be: a record in two pieces is copied.
fn pieces(chunk: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = chunk;
    std::iter::from_fn(move || {
        let end = match rest.get(..FEED_BYTES) {
            None => rest.len(),
            Some(piece) => memrchr(b'\n', piece).map_or(FEED_BYTES, |newline| newline + 1),
        };
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn decoder(format: &TextFormat, sink: &PieceSink<'_>) -> Result<TextDecoder> {
    let source = sink.source();
    let mut decoder = TextDecoder::new(TextDecoderOptions {
        schema: Arc::clone(source.declared()),
        projection: Some(sink.plan().columns.clone()),
        format: format.clone(),
        defaults: source.defaults().to_vec(),
        limits: DecodeLimits { batch_rows: sink.batch_rows(), ..source.options().limits },
    })?;
    // Judged where the record is at hand: what goes to quarantine are its own bytes, and its place among them.
    if let Some(column) = source.event_time() {
        let drops_late = is_dropped(source.lateness(), RejectReason::Late);
        let bounds = EventTimeBounds { latest: sink.latest(), late_before: sink.late_before(), drops_late };
        decoder.judge_event_times(column, bounds)?;
    }
    Ok(decoder)
}

async fn drain(
    decoder: &mut TextDecoder,
    object: &PinnedObject,
    format: &TextFormat,
    sink: &mut PieceSink<'_>,
) -> Result<()> {
    while let Some(decoded) = decoder.next_batch() {
        sink.rows(&decoded.batch, Numbers::Records(&decoded.numbers), &decoded.batch).await?;
    }
    if let Some(rejects) = decoder.take_rejects().map_err(|fault| failed(object, format, sink, fault))? {
        sink.report_rejects(rejects).await;
    }
    Ok(())
}

fn failed(object: &PinnedObject, format: &TextFormat, sink: &PieceSink<'_>, fault: FileFault) -> Error {
    fault.into_error(sink.source().name(), object.path(), format.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_end_with_a_line_where_they_can() {
        let mut text = b"0123456\n".repeat(20_000);
        text.extend(vec![b'x'; 3 * FEED_BYTES]);
        text.extend(b"\nlast");
        let pieces: Vec<_> = pieces(&text).collect();
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().all(|piece| piece.len() <= FEED_BYTES));
        assert!(pieces[..2].iter().all(|piece| piece.ends_with(b"\n")));
    }
}
