//! A store in memory with the oddities of real ones: tags that listings give without quotes (Azure), markers of folders
//! (what consoles and Hadoop leave in S3 and Google Cloud Storage).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

#[derive(Debug, Default)]
pub(super) struct OddStore {
    inner: InMemory,
    /// Folders that have a marker.
    markers: Vec<Path>,
    /// Keys that were taken from listings without a delimiter.
    pub(super) listed: Arc<AtomicUsize>,
}

impl OddStore {
    pub(super) fn with_markers(markers: Vec<Path>) -> Self {
        Self { markers, ..Self::default() }
    }
}

impl fmt::Display for OddStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("odd")
    }
}

fn precondition(path: &Path) -> object_store::Error {
    object_store::Error::Precondition { path: path.to_string(), source: "another tag".into() }
}

#[async_trait]
impl ObjectStore for OddStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, mut options: GetOptions) -> Result<GetResult> {
        let quoted = |tag: &String| format!("\"{tag}\"");
        let condition = options.if_match.take();
        let mut result = self.inner.get_opts(path, options).await?;
        result.meta.e_tag = result.meta.e_tag.as_ref().map(quoted);
        if condition.is_some() && condition != result.meta.e_tag {
            return Err(precondition(path));
        }
        Ok(result)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let root = Path::default();
        let prefix = prefix.unwrap_or(&root);
        // A store's keys come in order, and that of a marker ends in `/`.
        let marker = |path: &Path| ObjectMeta {
            location: path.clone(),
            last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
            size: 0,
            e_tag: Some("marker".to_owned()),
            version: None,
        };
        let markers = self.markers.iter().filter(|path| path.prefix_matches(prefix));
        let mut found: Vec<_> = markers.map(|path| (format!("{path}/"), marker(path))).collect();
        let objects: Vec<_> = futures::executor::block_on(self.inner.list(Some(prefix)).try_collect()).unwrap();
        found.extend(objects.into_iter().map(|meta: ObjectMeta| (meta.location.to_string(), meta)));
        found.sort_by(|left, right| left.0.cmp(&right.0));
        let listed = Arc::clone(&self.listed);
        let taken = found.into_iter().inspect(move |_| _ = listed.fetch_add(1, Ordering::SeqCst));
        stream::iter(taken.map(|(_, meta)| Ok(meta))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
