//! Reads back what the writers wrote: rows of quarantine files, footers for the Delta log.

use std::ops::Range;
use std::sync::Arc;

use bessemer_schemas::DataFile;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::{Error, Location};

/// Bytes read at first from the end of a file: the footer of most files, so that one request is enough.
const FOOTER_BYTES: usize = 64 << 10;

/// One committed file, whose size is known, as the Parquet library reads it.
#[derive(Debug, Clone)]
pub(crate) struct FileReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
}

impl FileReader {
    pub(crate) fn new(location: &Location, file: &DataFile) -> Self {
        Self { store: Arc::clone(location.store()), path: location.path(&file.path), bytes: file.bytes }
    }

    /// The footer, without the page index.
    pub(crate) async fn footer(&mut self) -> ParquetResult<ParquetMetaData> {
        let reader = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_prefetch_hint(Some(FOOTER_BYTES));
        let bytes = self.bytes;
        reader.load_and_finish(self, bytes).await
    }
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let read = self.store.get_range(&self.path, range).await;
            read.map_err(|error| ParquetError::External(Box::new(error)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { self.footer().await.map(Arc::new) }.boxed()
    }
}

/// Why a committed file could not be read: the store's trouble is the world's; anything else is the file's.
pub(super) fn read_error(path: &str, error: ParquetError) -> Error {
    match error {
        ParquetError::External(error) => match error.downcast::<object_store::Error>() {
            Ok(error) => Error::store(path, *error),
            Err(error) => Error::Damaged { path: path.to_owned(), reason: error.to_string() },
        },
        error => Error::Damaged { path: path.to_owned(), reason: error.to_string() },
    }
}
