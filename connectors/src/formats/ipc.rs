//! Arrow IPC, files and streams.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::ArrowError;

use super::Opened;

/// What an Arrow file begins with (Arrow columnar format, "IPC File Format").
const FILE_MAGIC: &[u8; 6] = b"ARROW1";

/// What a complete stream ends with (Arrow columnar format, "IPC Streaming Format").
const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Opens a file or a stream, whichever it is.
///
/// The format lets a stream end without its mark; here the mark is asked for, since without it a truncated stream
/// cannot be told from a whole one.
pub(crate) fn open(mut reader: impl Read + Seek + Send + 'static) -> Result<Opened, ArrowError> {
    let mut head = [0; 6];
    let length = read_up_to(&mut reader, &mut head)?;
    if &head[..length] == FILE_MAGIC {
        reader.seek(SeekFrom::Start(0))?;
        let reader = FileReader::try_new(reader, None)?;
        return Ok(Opened { schema: reader.schema(), batches: Box::new(reader) });
    }
    let mut tail = [0; 8];
    let end = reader.seek(SeekFrom::End(0))?;
    reader.seek(SeekFrom::Start(end.saturating_sub(8)))?;
    read_up_to(&mut reader, &mut tail)?;
    if tail != END_OF_STREAM {
        let reason =
            "it does not end as an Arrow file or stream does: it is none, is truncated, or is still being written";
        return Err(ArrowError::IpcError(reason.to_owned()));
    }
    reader.seek(SeekFrom::Start(0))?;
    let reader = StreamReader::try_new(BufReader::new(reader), None)?;
    Ok(Opened { schema: reader.schema(), batches: Box::new(reader) })
}

fn read_up_to(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match reader.read(&mut bytes[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}
