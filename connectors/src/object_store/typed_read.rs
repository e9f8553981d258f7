//! Reading Arrow IPC and Avro: their decoders block, so they run on a thread of their own, a few batches ahead.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::fit::Fit;
use super::object_reader::ObjectReader;
use super::pinned::PinnedObject;
use super::read_plan::Numbers;
use super::scan_piece::PieceSink;
use crate::formats::{Opened, avro, ipc};
use crate::{Error, Result};

/// Batches between the decoder and the scan.
const QUEUE: usize = 2;

/// Which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TypedFormat {
    Arrow,
    Avro,
}

impl TypedFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Arrow => "Arrow IPC",
            Self::Avro => "Avro",
        }
    }

    fn open(self, reader: ObjectReader, batch_rows: usize) -> std::result::Result<Opened, ArrowError> {
        match self {
            Self::Arrow => ipc::open(reader),
            Self::Avro => avro::open(reader, batch_rows),
        }
    }
}

enum Decoded {
    Schema(SchemaRef),
    Batch(RecordBatch),
}

/// Reads one object into `sink`. All its columns are decoded: a rejected row is kept whole.
pub(super) async fn read(object: &PinnedObject, format: TypedFormat, sink: &mut PieceSink<'_>) -> Result<()> {
    let fetched = Arc::new(AtomicU64::new(0));
    let (sender, mut decoded) = mpsc::channel(QUEUE);
    let reader = ObjectReader::new(object.clone(), Handle::current(), Arc::clone(&fetched));
    let batch_rows = sink.batch_rows();
    let thread = tokio::task::spawn_blocking(move || decode(format, reader, batch_rows, &sender));

    let (mut fit, mut held, mut row) = (None, Vec::new(), 0);
    let (mut reported, read) = (0, || fetched.load(Ordering::Relaxed));
    while let Some(decoded) = decoded.recv().await {
        match decoded {
            Decoded::Schema(schema) => {
                held = (0..schema.fields().len()).collect();
                let declared = Fit::new(sink.source(), object.path(), &schema)?;
                // Whether the object is readable does not depend on what a query reads.
                fit = Some(if sink.is_check() { declared } else { declared.project(&sink.plan().columns)? });
            }
            Decoded::Batch(batch) => {
                let Some(fit) = &fit else { continue };
                // A file's own batches may be of any size.
                for start in (0..batch.num_rows()).step_by(batch_rows.max(1)) {
                    let part = batch.slice(start, batch_rows.min(batch.num_rows() - start));
                    sink.rows(&fit.apply(&part, &held)?, Numbers::From(row), &part).await?;
                    row += part.num_rows() as u64;
                }
                sink.progress(read() - reported, 0);
                reported = read();
            }
        }
    }
    // A decoder that panics on damaged bytes ends its thread, not the process.
    let done = thread.await.unwrap_or_else(|_| Err(ArrowError::ParseError("its bytes are damaged".to_owned())));
    done.map_err(|error| failure(object, format, read(), error))
}

fn decode(
    format: TypedFormat,
    reader: ObjectReader,
    batch_rows: usize,
    sender: &mpsc::Sender<Decoded>,
) -> std::result::Result<(), ArrowError> {
    let opened = format.open(reader, batch_rows)?;
    let mut is_wanted = sender.blocking_send(Decoded::Schema(opened.schema)).is_ok();
    for batch in opened.batches {
        if !is_wanted {
            break;
        }
        is_wanted = sender.blocking_send(Decoded::Batch(batch?)).is_ok();
    }
    Ok(())
}

fn failure(object: &PinnedObject, format: TypedFormat, offset: u64, error: ArrowError) -> Error {
    // An error of the store comes through the decoder as it is; what else fails is the file's fault.
    let reason = match error {
        ArrowError::IoError(_, error) => match error.downcast::<Error>() {
            Ok(error) => return error,
            Err(error) => error.to_string(),
        },
        ArrowError::ExternalError(error) => {
            match error.downcast::<io::Error>().map(|error| error.downcast::<Error>()) {
                Ok(Ok(error)) => return error,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            }
        }
        other => other.to_string(),
    };
    Error::BadFile { path: object.path().to_owned(), format: format.name(), offset, reason }
}
