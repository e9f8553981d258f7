//! A store in memory that fails on purpose, for the tests of this module.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// Fails one write call (put, begin, part, complete), counted from 0, and no other.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: InMemory,
    calls: Arc<AtomicUsize>,
    failing: usize,
}

impl FaultyStore {
    pub(crate) fn failing_at(failing: usize) -> Self {
        Self { inner: InMemory::new(), calls: Arc::default(), failing }
    }

    /// Puts an object without counting it as a call.
    #[cfg(feature = "delta")]
    pub(crate) async fn put_untouched(&self, path: &Path, bytes: bytes::Bytes) {
        self.inner.put_opts(path, bytes.into(), PutOptions::default()).await.unwrap();
    }

    /// Write calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn count(calls: &AtomicUsize, failing: usize) -> Result<()> {
    if calls.fetch_add(1, Ordering::SeqCst) == failing {
        return Err(object_store::Error::Generic { store: "faulty", source: "on purpose".into() });
    }
    Ok(())
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        count(&self.calls, self.failing)?;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        count(&self.calls, self.failing)?;
        let inner = self.inner.put_multipart_opts(path, options).await?;
        Ok(Box::new(FaultyUpload { inner, calls: Arc::clone(&self.calls), failing: self.failing }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    calls: Arc<AtomicUsize>,
    failing: usize,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        if let Err(error) = count(&self.calls, self.failing) {
            return async move { Err(error) }.boxed();
        }
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        count(&self.calls, self.failing)?;
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
