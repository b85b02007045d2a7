//! Requests that somebody else makes to the store, by an address that we signed for one object and for a while.

use std::time::Duration;

use aws_sdk_s3::{Config, presigning::PresigningConfig};

use super::{ObjectError, Objects};

impl Objects {
    /// Whether clients can reach the store themselves.
    pub fn is_public(&self) -> bool {
        self.public_endpoint.is_some()
    }

    /// The address to which one object of exactly this type and size can be written by `PUT`; the store refuses any other type, size and
    /// key, and everything after `lifetime`. None where clients cannot reach the store.
    ///
    /// # Errors
    /// When nothing can be signed, such as for longer than seven days.
    pub async fn presign_put(
        &self,
        key: &str,
        media_type: &str,
        size_bytes: u64,
        lifetime: Duration,
    ) -> Result<Option<String>, ObjectError> {
        let Some(endpoint) = &self.public_endpoint else { return Ok(None) };
        let signing = PresigningConfig::expires_in(lifetime);
        let signing =
            signing.map_err(|error| ObjectError::Config(format!("nothing can be signed: {error}")))?;
        let signed = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(media_type)
            .content_length(i64::try_from(size_bytes).unwrap_or(i64::MAX))
            .customize()
            .config_override(Config::builder().endpoint_url(endpoint))
            .presigned(signing)
            .await
            .map_err(|error| self.failed(&error))?;
        Ok(Some(signed.uri().to_owned()))
    }
}
