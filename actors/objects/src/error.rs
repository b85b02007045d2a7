//! Why the store did not do it: from its answers, or their absence, to what a caller can tell apart. Every call of this crate ends here.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::Objects;

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

impl Objects {
    pub(super) fn failed<E>(&self, error: &SdkError<E>) -> ObjectError
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
    pub(super) fn misconfigured(&self, code: &str, told: &str) -> ObjectError {
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

/// Codes by which a store says that it does not know us, or not what our configuration names.
pub(super) fn is_about_us(code: &str) -> bool {
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
pub(super) fn causes(error: &dyn std::error::Error) -> String {
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
