//! `s3s-fs` as strict as S3: a put-if-absent that is atomic, reads pinned to an etag, listings that carry etags.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::sync::RwLock;

/// The file system behind one lock: what S3 does atomically is atomic here, too.
#[derive(Debug)]
pub(super) struct StrictStore {
    files: FileSystem,
    /// Held for writing by what changes objects. `s3s-fs` looks whether an object exists, then writes it: two
    /// put-if-absent at once would both succeed.
    objects: RwLock<()>,
}

impl StrictStore {
    pub(super) fn new(files: FileSystem) -> Self {
        Self { files, objects: RwLock::new(()) }
    }
}

/// Refuses where `condition` asks for another etag than `found`.
fn require(condition: Option<&ETagCondition>, found: Option<&ETag>) -> S3Result<()> {
    match (condition, found) {
        (Some(ETagCondition::ETag(expected)), Some(found)) if !expected.strong_cmp(found) => {
            Err(s3_error!(PreconditionFailed, "the etag is another"))
        }
        _ => Ok(()),
    }
}

#[async_trait::async_trait]
impl S3 for StrictStore {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let _writing = self.objects.write().await;
        self.files.put_object(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let _reading = self.objects.read().await;
        let condition = request.input.if_match.clone();
        let response = self.files.get_object(request).await?;
        require(condition.as_ref(), response.output.e_tag.as_ref())?;
        Ok(response)
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let _reading = self.objects.read().await;
        let condition = request.input.if_match.clone();
        let response = self.files.head_object(request).await?;
        require(condition.as_ref(), response.output.e_tag.as_ref())?;
        Ok(response)
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let _reading = self.objects.read().await;
        let bucket = request.input.bucket.clone();
        let mut response = self.files.list_objects_v2(request).await?;
        for object in response.output.contents.iter_mut().flatten() {
            let input = HeadObjectInput {
                bucket: bucket.clone(),
                key: object.key.clone().unwrap_or_default(),
                ..HeadObjectInput::default()
            };
            object.e_tag = self.files.head_object(plain_request(input)).await?.output.e_tag;
        }
        Ok(response)
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let _writing = self.objects.write().await;
        self.files.delete_object(request).await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let _writing = self.objects.write().await;
        self.files.delete_objects(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.files.create_multipart_upload(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.files.upload_part(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let _writing = self.objects.write().await;
        self.files.complete_multipart_upload(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.files.abort_multipart_upload(request).await
    }
}

/// A request of ours, without the wrapping of HTTP.
fn plain_request<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: http::Method::HEAD,
        uri: http::Uri::default(),
        headers: http::HeaderMap::default(),
        extensions: http::Extensions::default(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}
