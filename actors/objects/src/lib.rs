//! The object store: any S3, spoken to on the main runtime. Which objects there are is the services' business.

mod chunks;
mod error;
mod presigned;
mod whole;

pub use error::ObjectError;
pub use whole::{Opened, Upload};

use std::{path::Path, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedHttpClient, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::SdkError,
    operation::{create_bucket::CreateBucketError, put_object::builders::PutObjectFluentBuilder},
    primitives::{ByteStream, SdkBody},
    types::{Delete, ObjectIdentifier},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use orrery_config::{secret, storage::Storage};
use orrery_observability::trace::{Kind, Span};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;

use self::{
    chunks::Chunks,
    error::{causes, is_about_us},
};

/// How long a connection to the store may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a probe writes: always the same, and nothing.
const PROBE_KEY: &str = "probe";

/// What is written never changes: browsers and caches may keep it for a year.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

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
    /// Where clients reach the store.
    public_endpoint: Option<String>,
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
            .timeout_config(timeouts);
        let sdk = match &config.ca_file {
            Some(file) => sdk.http_client(client_that_trusts(file)?),
            None => sdk,
        };
        let sdk = sdk.build();
        Ok(Self {
            client: Client::from_conf(sdk),
            bucket: config.bucket.clone(),
            public_endpoint: config.public_endpoint.clone(),
            timeout: config.timeout,
        })
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
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Whether the bucket can be reached.
    ///
    /// # Errors
    /// When the store is away, refuses, or has no such bucket.
    pub async fn probe(&self) -> Result<(), ObjectError> {
        match self.client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            // An answer to HEAD says no more than its status.
            Err(error) => match self.failed(&error) {
                ObjectError::NotFound => {
                    Err(self.misconfigured("NoSuchBucket", &format!("there is no bucket '{}'", self.bucket)))
                }
                other => Err(other),
            },
        }
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
        let sending = self.put_request(key, media_type, size_bytes, body).send();
        traced("PutObject", sending).await.map_err(|error| self.failed(&error))?;
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
        let sending = self
            .put_request(key, media_type, size_bytes, ByteStream::new(body))
            .customize()
            .config_override(patient())
            .send();
        traced("PutObject", sending).await.map_err(|error| self.failed(&error))?;
        Ok(())
    }

    /// Reads a whole object of at most `limit_bytes`.
    ///
    /// # Errors
    /// When it is not there or too large, or the store is away.
    pub async fn get(&self, key: &str, limit_bytes: u64) -> Result<Bytes, ObjectError> {
        let sending = self.client.get_object().bucket(&self.bucket).key(key).send();
        let object = traced("GetObject", sending).await.map_err(|error| self.failed(&error))?;
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
        let sending = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_continuation_token(from)
            .send();
        let page = traced("ListObjectsV2", sending).await.map_err(|error| self.failed(&error))?;
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

    /// Writes an empty object under a key of its own: whether the store takes objects, not only answers.
    ///
    /// # Errors
    /// As `put`.
    pub async fn probe_write(&self) -> Result<(), ObjectError> {
        self.put(PROBE_KEY, "application/octet-stream", 0, ByteStream::from_static(b"")).await
    }

    /// Deletes objects, at most 1,000 at once; one that is not there is no error.
    ///
    /// # Errors
    /// When the store is away or refuses; `Partly` when it kept some of them.
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
        let sending = self.client.delete_objects().bucket(&self.bucket).delete(delete).send();
        let answer = traced("DeleteObjects", sending).await.map_err(|error| self.failed(&error))?;
        // Status 200 tells that the request was understood; what became of each key stands in the body.
        let kept: Vec<_> = answer
            .errors()
            .iter()
            .map(|error| (error.key().unwrap_or_default(), error.code().unwrap_or("an unknown code")))
            .filter(|(_, code)| *code != "NoSuchKey")
            .map(|(key, code)| (key.to_owned(), code.to_owned()))
            .collect();
        match kept.first() {
            None => Ok(()),
            Some((_, code)) if kept.len() == keys.len() && is_about_us(code) => {
                Err(self.misconfigured(code, code))
            }
            Some(_) => Err(ObjectError::Partly(kept)),
        }
    }
}

/// For bodies that take as long as they take: the pace is the sender's, who is watched where the bytes come from, so only the connection has a limit.
fn patient() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder()
        .timeout_config(
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).disable_read_timeout().build(),
        )
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

/// A call in its span. Keys stay out of it: they hold accounts.
async fn traced<T, E>(method: &'static str, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let span = Span::new(Kind::Client, || format!("S3/{method}"))
        .with("rpc.system", "aws-api")
        .with("rpc.service", "S3")
        .with("rpc.method", method);
    let answer = span.clone().run(call).await;
    if answer.is_err() {
        span.fail("refused");
    }
    answer
}

/// A client for a store whose certificate is signed by the authority in a file.
fn client_that_trusts(file: &Path) -> Result<SharedHttpClient, ObjectError> {
    let fault = |fault: String| ObjectError::Config(format!("storage.ca_file: {} {fault}", file.display()));
    let pem = secret::read_text(file).map_err(fault)?;
    let store = TrustStore::empty().with_pem_certificate(pem);
    let context =
        TlsContext::builder().with_trust_store(store).build().map_err(|error| fault(causes(&error)))?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https())
}

#[cfg(test)]
mod tests;
