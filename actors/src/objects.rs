//! The object store: any S3, spoken to on the main runtime. Which objects there are is the services' business.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::{create_bucket::CreateBucketError, put_object::builders::PutObjectFluentBuilder},
    primitives::{ByteStream, SdkBody},
    types::{Delete, ObjectIdentifier},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body::{Body, Frame, SizeHint};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;

use crate::config::storage::Storage;

/// How long a connection to the store may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What is written never changes: browsers and caches may keep it for a year.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The configuration lacks something.
    #[error("{0}")]
    Config(String),
    /// No such object.
    #[error("the object is not there")]
    NotFound,
    /// The object is larger than was asked for.
    #[error("the object is larger than {0} bytes")]
    TooLarge(u64),
    /// The store answered that it will not do this.
    #[error("the object store refused: {0}")]
    Refused(String),
    /// The store is away, slow or broken.
    #[error("the object store is away: {0}")]
    Unavailable(String),
}

/// One object of a listing.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// When it was written, by the store's clock.
    pub modified: DateTime<Utc>,
}

/// A page of a listing.
#[derive(Debug)]
pub struct Page {
    /// The objects.
    pub objects: Vec<Listed>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

/// A bucket.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    bucket: String,
    timeout: Duration,
}

impl Objects {
    /// A client by its configuration; nothing is opened yet.
    ///
    /// # Errors
    /// When the secret is missing.
    pub fn new(config: &Storage) -> Result<Self, ObjectError> {
        let secret = config.secret().map_err(ObjectError::Config)?;
        let credentials =
            Credentials::new(&config.access_key, secret.expose_secret(), None, None, "configuration");
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(config.timeout).build();
        let sdk = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&config.endpoint)
            .region(Region::new(config.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(true)
            // A checksum trailer would make every streamed body chunked, which not every S3 takes.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(timeouts)
            .build();
        Ok(Self { client: Client::from_conf(sdk), bucket: config.bucket.clone(), timeout: config.timeout })
    }

    /// How long the store may be silent before it counts as away.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes the bucket; one that is there is success.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn create_bucket(&self) -> Result<(), ObjectError> {
        match self.client.create_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error))
                if matches!(
                    error.err(),
                    CreateBucketError::BucketAlreadyExists(_) | CreateBucketError::BucketAlreadyOwnedByYou(_)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Whether the bucket can be reached.
    ///
    /// # Errors
    /// When the store is away, refuses, or has no such bucket.
    pub async fn probe(&self) -> Result<(), ObjectError> {
        self.client.head_bucket().bucket(&self.bucket).send().await.map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Writes an object that will never change. Writing it again is harmless.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn put(
        &self,
        key: &str,
        media_type: &str,
        size_bytes: u64,
        body: ByteStream,
    ) -> Result<(), ObjectError> {
        self.put_request(key, media_type, size_bytes, body).send().await.map_err(|error| failed(&error))?;
        Ok(())
    }

    fn put_request(
        &self,
        key: &str,
        media_type: &str,
        size_bytes: u64,
        body: ByteStream,
    ) -> PutObjectFluentBuilder {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(media_type)
            .cache_control(IMMUTABLE)
            .content_length(i64::try_from(size_bytes).unwrap_or(i64::MAX))
            .body(body)
    }

    /// Writes an object from chunks as they come; `chunks` must give `size_bytes` in all. One that ends early, or with an error, is not kept.
    ///
    /// # Errors
    /// When the store is away or refuses, or the chunks end early.
    pub async fn put_stream(
        &self,
        key: &str,
        media_type: &str,
        size_bytes: u64,
        chunks: mpsc::Receiver<Result<Bytes, std::io::Error>>,
    ) -> Result<(), ObjectError> {
        let body = SdkBody::from_body_1_x(Chunks { chunks, left_bytes: size_bytes });
        // The pace is the sender's, who is watched where the chunks come from: only the connection has a limit here.
        let patient = aws_sdk_s3::Config::builder()
            .timeout_config(
                TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).disable_read_timeout().build(),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        self.put_request(key, media_type, size_bytes, ByteStream::new(body))
            .customize()
            .config_override(patient)
            .send()
            .await
            .map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Reads a whole object of at most `limit_bytes`.
    ///
    /// # Errors
    /// When it is not there or too large, or the store is away.
    pub async fn get(&self, key: &str, limit_bytes: u64) -> Result<Bytes, ObjectError> {
        let object = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
            .map_err(|error| failed(&error))?;
        let size = object.content_length().and_then(|size| u64::try_from(size).ok());
        if size.is_none_or(|size| size > limit_bytes) {
            return Err(ObjectError::TooLarge(limit_bytes));
        }
        let body =
            object.body.collect().await.map_err(|error| ObjectError::Unavailable(error.to_string()))?;
        Ok(body.into_bytes())
    }

    /// One page of the objects under `prefix`.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn list(&self, prefix: &str, from: Option<String>) -> Result<Page, ObjectError> {
        let page = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_continuation_token(from)
            .send()
            .await
            .map_err(|error| failed(&error))?;
        let objects = page
            .contents()
            .iter()
            .filter_map(|object| {
                let modified = object.last_modified()?;
                let modified = DateTime::from_timestamp(modified.secs(), modified.subsec_nanos())?;
                Some(Listed { key: object.key()?.to_owned(), modified })
            })
            .collect();
        Ok(Page { objects, next: page.next_continuation_token })
    }

    /// Deletes objects, at most 1,000 at once; one that is not there is no error.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn delete(&self, keys: &[String]) -> Result<(), ObjectError> {
        let objects = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(key).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ObjectError::Refused(error.to_string()))?;
        let delete = Delete::builder()
            .set_objects(Some(objects))
            .quiet(true)
            .build()
            .map_err(|error| ObjectError::Refused(error.to_string()))?;
        self.client
            .delete_objects()
            .bucket(&self.bucket)
            .delete(delete)
            .send()
            .await
            .map_err(|error| failed(&error))?;
        Ok(())
    }
}

/// A body of known size whose chunks come from a request.
struct Chunks {
    chunks: mpsc::Receiver<Result<Bytes, std::io::Error>>,
    left_bytes: u64,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let chunk = match ready!(self.chunks.poll_recv(context)) {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None if self.left_bytes == 0 => return Poll::Ready(None),
            None => return Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into()))),
        };
        let size = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.left_bytes = match self.left_bytes.checked_sub(size) {
            Some(left) => left,
            None => return Poll::Ready(Some(Err(std::io::ErrorKind::FileTooLarge.into()))),
        };
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

fn failed<E>(error: &SdkError<E>) -> ObjectError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let text = DisplayErrorContext(error).to_string();
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            match status {
                404 => ObjectError::NotFound,
                // A store that is overloaded or broken is away; one that says no means it.
                429 | 500.. => ObjectError::Unavailable(format!("status {status}")),
                _ => {
                    ObjectError::Refused(service.err().code().map_or_else(
                        || format!("status {status}"),
                        |code| format!("{code} (status {status})"),
                    ))
                }
            }
        }
        _ => ObjectError::Unavailable(text),
    }
}
