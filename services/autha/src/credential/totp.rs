//! Time-based one-time codes (RFC 6238): SHA-1, six digits, 30 s, one step of drift each way. A code works once.

use chrono::{DateTime, Utc};
use orrery_supervise::random::Random;
use totp_rs::{Algorithm, Builder, Secret, Totp};
use zeroize::Zeroizing;

/// Bytes that a secret may have: what authenticators show is at least 80 bits.
const LENGTH: std::ops::RangeInclusive<usize> = 10..=64;

/// How long a code is the current one.
pub const STEP_SECONDS: i64 = 30;

/// The shared secret.
pub struct TotpSecret(Zeroizing<Vec<u8>>);

impl TotpSecret {
    /// A secret as authenticators have it: base32, with or without padding and spaces, in any case.
    pub fn from_base32(text: &str) -> Option<Self> {
        let plain: String = text
            .chars()
            .filter(|c| !c.is_ascii_whitespace() && *c != '-' && *c != '=')
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let secret = Secret::try_from_base32(&plain).ok()?;
        Self::from_bytes(secret.as_bytes())
    }

    /// A secret of these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        LENGTH.contains(&bytes.len()).then(|| Self(Zeroizing::new(bytes.to_vec())))
    }

    /// A new one of 160 bits.
    pub fn random(random: &Random) -> Self {
        Self(Zeroizing::new(random.bytes::<20>().to_vec()))
    }

    /// As authenticators take it.
    pub fn to_base32(&self) -> String {
        Secret::from(self.0.to_vec()).to_base32()
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The step that the code is of, if it is right at `now`.
    pub fn step_of(&self, code: &str, now: DateTime<Utc>) -> Option<i64> {
        let code: String = code.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let time = u64::try_from(now.timestamp()).ok()?;
        self.totp().check(&code, time).and_then(|step| i64::try_from(step).ok())
    }

    fn totp(&self) -> Totp {
        // "Noncompliant" are secrets below 128 bits, which authenticators made for years.
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(6)
            .with_skew(1)
            .with_step_duration(30)
            .with_secret(self.0.to_vec())
            .build_noncompliant()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, of which six digits are left.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = TotpSecret::from_bytes(b"12345678901234567890").unwrap();
        for (seconds, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (2_000_000_000, "279037")]
        {
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            assert_eq!(secret.step_of(code, now), Some(seconds / 30), "{seconds}");
            let drift = |by: i64| DateTime::from_timestamp(seconds + by, 0).unwrap();
            assert!(secret.step_of(code, drift(30)).is_some());
            assert!(secret.step_of(code, drift(90)).is_none());
        }
    }

    #[test]
    fn a_secret_is_read_as_authenticators_show_it() {
        let secret = TotpSecret::from_base32("gezd gnbv-gy3t qojq GEZDGNBVGY3TQOJQ==").unwrap();
        assert_eq!(secret.as_bytes(), b"12345678901234567890");
        for bad in ["", "GEZD", "1!", "GEZDGNBVGY3TQOJ1"] {
            assert!(TotpSecret::from_base32(bad).is_none(), "{bad}");
        }
    }
}
