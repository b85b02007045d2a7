//! Signatures of deliveries, as Standard Webhooks 1.0 has them: HMAC-SHA-256 of `<webhook-id>.<webhook-timestamp>.<body>`, one for each secret.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use orrery_seal::{SealError, Sealer};
use orrery_supervise::random::Random;
use uuid::Uuid;
use zeroize::Zeroizing;

/// How a secret begins when it is shown.
const PREFIX: &str = "whsec_";
/// Bytes of a secret.
const BYTES: usize = 32;

/// A secret that signs.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; BYTES]>);

impl Secret {
    /// A new one.
    pub fn fresh(random: &Random) -> Self {
        Self(Zeroizing::new(random.bytes()))
    }

    /// As its receiver is shown it, once.
    pub fn shown(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(self.0.as_slice())))
    }

    /// Sealed for its endpoint.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn sealed(&self, sealer: &Sealer, endpoint: Uuid) -> Result<String, SealError> {
        sealer.seal(self.0.as_slice(), &endpoint.to_string())
    }

    /// Opens a sealed one.
    ///
    /// # Errors
    /// When the key is missing, or the text was changed.
    pub fn open(sealer: &Sealer, sealed: &str, endpoint: Uuid) -> Result<Self, SealError> {
        let bytes = sealer.open(sealed, &endpoint.to_string())?;
        let bytes = <[u8; BYTES]>::try_from(bytes.as_slice()).map_err(|_| SealError::Malformed)?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

/// The value of `webhook-signature`: a signature by each secret.
pub fn signatures(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let head = format!("{id}.{timestamp}.");
    let signatures = secrets.iter().map(|secret| {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.0.as_slice()));
        context.update(head.as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_standard() {
        // Computed by Python's hmac.
        let secret = Secret(Zeroizing::new(*b"0123456789abcdef0123456789abcdef"));
        assert_eq!(secret.shown().as_str(), "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        let signed =
            signatures(std::slice::from_ref(&secret), "msg_1", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signed, EXPECTED);
        let two = signatures(&[secret.clone(), secret], "msg_1", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(two, format!("{EXPECTED} {EXPECTED}"));
    }

    const EXPECTED: &str = "v1,aTF4+pE6A/FmvKM0YSVBBUfRhLIlBiaBUR+EjGls6Mc=";
}
