//! The object store: any S3, spoken to on the main runtime. Which objects there are is the services' business.

mod whole;

pub use whole::{Opened, Upload};

use std::{
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedHttpClient, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
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
use http_body::{Body, Frame, SizeHint};
use orrery_config::{secret, storage::Storage};
use orrery_observability::trace::{Kind, Span};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;

/// How long a connection to the store may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a probe writes: always the same, and nothing.
const PROBE_KEY: &str = "probe";

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
    /// The store does not know us, or not the bucket: our configuration is wrong, not what was asked for. The text says what to set.
    #[error("the object store refuses us: {0}")]
    Misconfigured(String),
    /// Some objects of several could not be removed; each key with the store's code.
    #[error("{} objects were not removed, the first because of {}", .0.len(), .0.first().map_or("nothing", |(_, code)| code.as_str()))]
    Partly(Vec<(String, String)>),
    /// The store answered that it will not do this.
    #[error("the object store refused: {0}")]
    Refused(String),
    /// The store is away, slow or broken.
    #[error("the object store is away: {0}")]
    Unavailable(String),
}

impl ObjectError {
    /// Whether nothing can be had of the store until somebody mends it, or its configuration: no fault of what was asked for.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Config(_) | Self::Misconfigured(_) | Self::Unavailable(_) => true,
            Self::NotFound | Self::TooLarge(_) | Self::Partly(_) | Self::Refused(_) => false,
        }
    }
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
            .timeout_config(timeouts);
        let sdk = match &config.ca_file {
            Some(file) => sdk.http_client(client_that_trusts(file)?),
            None => sdk,
        };
        let sdk = sdk.build();
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

    fn failed<E>(&self, error: &SdkError<E>) -> ObjectError
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let SdkError::ServiceError(service) = error else {
            return ObjectError::Unavailable(self.unanswered(error));
        };
        let status = service.raw().status().as_u16();
        // The store's own words; an answer to HEAD has none.
        let code = service.err().code().unwrap_or_default();
        let told = match (code, service.err().message()) {
            ("", _) => format!("status {status}"),
            (code, Some(message)) => format!("{code}, {message} (status {status})"),
            (code, None) => format!("{code} (status {status})"),
        };
        match status {
            _ if is_about_us(code) => self.misconfigured(code, &told),
            // Without a word only the status tells.
            401 | 403 | 301 | 307 => self.misconfigured(code, &told),
            404 => ObjectError::NotFound,
            // A store that is overloaded or broken is away; one that says no means it.
            429 | 500.. => ObjectError::Unavailable(told),
            _ => ObjectError::Refused(told),
        }
    }

    /// What to set, by the store's code.
    fn misconfigured(&self, code: &str, told: &str) -> ObjectError {
        let bucket = &self.bucket;
        let what = match code {
            "NoSuchBucket" => format!("set storage.bucket, or make '{bucket}' by 'orrery migrate'"),
            "InvalidAccessKeyId" => "set storage.access_key".to_owned(),
            "SignatureDoesNotMatch" => "set storage.secret_key".to_owned(),
            "RequestTimeTooSkewed" | "RequestExpired" => {
                "set this machine's clock, or the store's (timedatectl)".to_owned()
            }
            "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
                "set storage.region and storage.endpoint to those of the bucket".to_owned()
            }
            _ => format!(
                "look at storage.access_key, storage.secret_key and their rights to the bucket '{bucket}'"
            ),
        };
        ObjectError::Misconfigured(format!("{told}: {what}"))
    }

    /// Why there was no answer, in words and without the SDK's types.
    fn unanswered<E>(&self, error: &SdkError<E>) -> String
    where
        E: std::error::Error + 'static,
    {
        match error {
            SdkError::TimeoutError(_) => format!("no answer within {:?}", self.timeout),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) => causes(error),
                None => "the request could not be sent".to_owned(),
            },
            SdkError::ResponseError(answer) => {
                format!("an answer that is none of S3 (status {})", answer.raw().status().as_u16())
            }
            other => causes(other),
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

/// Codes by which a store says that it does not know us, or not what our configuration names.
fn is_about_us(code: &str) -> bool {
    matches!(
        code,
        "AccessDenied"
            | "AccountProblem"
            | "AllAccessDisabled"
            | "AuthorizationHeaderMalformed"
            | "ExpiredToken"
            | "IllegalLocationConstraintException"
            | "InvalidAccessKeyId"
            | "InvalidToken"
            | "NoSuchBucket"
            | "NotSignedUp"
            | "PermanentRedirect"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
            | "SignatureDoesNotMatch"
    )
}

/// What an error and its causes say, each once; the outermost says only that something went wrong.
fn causes(error: &dyn std::error::Error) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !told.iter().any(|before| before.contains(&text)) {
            told.push(text);
        }
        next = error.source();
    }
    told.join(": ")
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn objects(endpoint: String) -> Objects {
        let config = Storage { endpoint, secret_key: Some("secret".into()), ..Storage::default() };
        Objects::new(&config).unwrap()
    }

    /// A store that gives one answer to everything, as bytes, for as long as the test runs.
    fn store(status: &'static str, body: String) -> Objects {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => break,
                        Ok(read) => head.extend_from_slice(&buffer[..read]),
                    }
                }
                // What is not read when a connection is closed makes it end before its answer.
                let text = String::from_utf8_lossy(&head).to_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
                let begun = text.split("\r\n\r\n").nth(1).unwrap_or_default().len();
                stream.read_exact(&mut vec![0; length.saturating_sub(begun)]).unwrap();
                let is_head = head.starts_with(b"HEAD");
                let body = if is_head { "" } else { body.as_str() };
                let length = body.len();
                // A client that has gone is no fault of the test's.
                let _written = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        objects(format!("http://{address}"))
    }

    fn fault(code: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>in its own words</Message></Error>"
        )
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_of_us_is_an_outage_that_says_what_to_set() {
        for (status, code, set) in [
            ("403 Forbidden", "AccessDenied", "storage.access_key"),
            ("403 Forbidden", "InvalidAccessKeyId", "set storage.access_key"),
            ("403 Forbidden", "SignatureDoesNotMatch", "set storage.secret_key"),
            ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
            ("404 Not Found", "NoSuchBucket", "make 'orrery' by 'orrery migrate'"),
            ("400 Bad Request", "AuthorizationHeaderMalformed", "storage.region"),
        ] {
            let error = store(status, fault(code)).get("avatars/x", 10).await.unwrap_err();
            let told = error.to_string();
            assert!(error.is_outage() && matches!(error, ObjectError::Misconfigured(_)), "{code}: {told}");
            assert!(told.contains(set) && told.contains(code) && told.contains("in its own words"), "{told}");
        }
        let missing = store("404 Not Found", fault("NoSuchKey")).get("avatars/x", 10).await.unwrap_err();
        assert!(matches!(missing, ObjectError::NotFound), "{missing}");
        let wrong =
            store("400 Bad Request", fault("InvalidArgument")).get("avatars/x", 10).await.unwrap_err();
        assert!(!wrong.is_outage(), "{wrong}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bucket_that_is_missing_is_named() {
        let told = store("404 Not Found", String::new()).probe().await.unwrap_err().to_string();
        assert!(told.contains("bucket 'orrery'") || told.contains("'orrery'"), "{told}");
        assert!(!told.contains("object is not there"), "{told}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_object_that_was_not_removed_is_told_by_its_key() {
        let body = "<?xml version=\"1.0\"?><DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <Error><Key>a</Key><Code>InternalError</Code><Message>m</Message></Error></DeleteResult>";
        let error =
            store("200 OK", body.to_owned()).delete(&["a".to_owned(), "b".to_owned()]).await.unwrap_err();
        let ObjectError::Partly(kept) = &error else { panic!("{error}") };
        assert_eq!(kept, &[("a".to_owned(), "InternalError".to_owned())]);
        let all = store("200 OK", "<DeleteResult/>".to_owned());
        assert!(all.delete(&["a".to_owned()]).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_is_away_is_told_in_words() {
        let told = objects("http://127.0.0.1:1".to_owned()).probe().await.unwrap_err();
        assert!(told.is_outage(), "{told}");
        let told = told.to_string();
        assert!(
            told.contains("refused") && !told.contains('{') && !told.contains("DispatchFailure"),
            "{told}"
        );
    }
}
