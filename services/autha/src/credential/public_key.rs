//! Public keys that clients hold: read from PEM (SPKI or PKCS#1), checked, and kept as SPKI. Which account has which lives in `account::keys`.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use orrery_seal::sha256;
use pkcs1::RsaPublicKey;
use spki::{
    AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef,
    der::{Any, AnyRef, Decode, Document, Encode, EncodePem, asn1::BitString, pem::LineEnding},
};

/// The longest text that is read; an RSA key of 8192 bits has 1.5 kB.
const LONGEST: usize = 4096;
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// SPKI as PEM.
    pub pem: String,
    /// SHA-256 of the SPKI's DER.
    pub fingerprint: Vec<u8>,
}

/// Why a text is no key for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// No PEM, or no key in it.
    #[error(
        "is no public key in PEM; send -----BEGIN PUBLIC KEY----- (SPKI) or -----BEGIN RSA PUBLIC KEY----- (PKCS#1)"
    )]
    Malformed,
    /// A private key.
    #[error("is a private key; it is a secret of yours: send the public one")]
    Private,
    /// Too long.
    #[error("is longer than 4096 characters")]
    TooLong,
    /// Another kind.
    #[error("is of a kind that is not taken; send RSA (2048 to 8192 bits), P-256 or Ed25519")]
    Unsupported,
}

impl PublicKey {
    /// Reads a key.
    ///
    /// # Errors
    /// Why it is none for us.
    pub fn parse(text: &str) -> Result<Self, PublicKeyError> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(PublicKeyError::TooLong);
        }
        if text.contains("PRIVATE KEY-----") {
            return Err(PublicKeyError::Private);
        }
        let (label, document) = Document::from_pem(text).map_err(|_| PublicKeyError::Malformed)?;
        let der = match label {
            "PUBLIC KEY" => document.as_bytes().to_vec(),
            "RSA PUBLIC KEY" => spki_of_rsa(document.as_bytes())?,
            _ => return Err(PublicKeyError::Malformed),
        };
        let key = SubjectPublicKeyInfoRef::try_from(der.as_slice()).map_err(|_| PublicKeyError::Malformed)?;
        check(&key)?;
        // Written anew, so that one key has one form.
        let owned = SubjectPublicKeyInfoOwned::from_der(&der).map_err(|_| PublicKeyError::Malformed)?;
        let der = owned.to_der().map_err(|_| PublicKeyError::Malformed)?;
        let pem = owned.to_pem(LineEnding::LF).map_err(|_| PublicKeyError::Malformed)?;
        Ok(Self { pem, fingerprint: sha256(&der) })
    }
}

fn spki_of_rsa(pkcs1: &[u8]) -> Result<Vec<u8>, PublicKeyError> {
    RsaPublicKey::from_der(pkcs1).map_err(|_| PublicKeyError::Malformed)?;
    let null = Any::from_der(&[5, 0]).map_err(|_| PublicKeyError::Malformed)?;
    let key = SubjectPublicKeyInfoOwned {
        algorithm: spki::AlgorithmIdentifier { oid: RSA, parameters: Some(null) },
        subject_public_key: BitString::from_bytes(pkcs1).map_err(|_| PublicKeyError::Malformed)?,
    };
    key.to_der().map_err(|_| PublicKeyError::Malformed)
}

fn check(key: &SubjectPublicKeyInfoRef<'_>) -> Result<(), PublicKeyError> {
    let AlgorithmIdentifierRef { oid, .. } = key.algorithm;
    let bits = key.subject_public_key.as_bytes().ok_or(PublicKeyError::Malformed)?;
    let curve = key
        .algorithm
        .parameters
        .and_then(|parameters: AnyRef<'_>| parameters.decode_as::<ObjectIdentifier>().ok());
    // The library checks that a point lies on its curve, and the size of an RSA key only when it verifies.
    let accepted = match oid {
        RSA => is_large_enough(bits) && ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bits).is_ok(),
        EC if curve == Some(P256) => ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, bits).is_ok(),
        ED25519_ID => ParsedPublicKey::new(&ED25519, bits).is_ok(),
        _ => false,
    };
    if accepted { Ok(()) } else { Err(PublicKeyError::Unsupported) }
}

/// Whether the modulus has 2048 to 8192 bits.
fn is_large_enough(pkcs1: &[u8]) -> bool {
    RsaPublicKey::from_der(pkcs1).is_ok_and(|key| {
        let modulus = key.modulus.as_bytes();
        let unused = modulus.first().map_or(0, |byte| usize::try_from(byte.leading_zeros()).unwrap_or(0));
        (2048..=8192).contains(&(modulus.len() * 8).saturating_sub(unused))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_SPKI: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApFFiwvZXrVXnmI/EVgtg\n\
        W3HILFy3CY5LlTb+kRPbX706djFHhutd7YA47F+8h4ZGeHk2j1E4D1qmzoULxKse\n\
        s3hnSnwkdNQdM0RrCrgbpYrghXIsTTcYLTWO1Qi6I17TstQdjXzSs4lwBXJ6AdFf\n\
        W29q4r7LQ9T2g0MACy6+UmWggZyV6jYEF1zSrkQH+tEHAQaSv3+yYEVvuiy9tlcZ\n\
        Fk3eqEsim8FRsLBquBcMg73Jql8Q8YdZUt483+cLngHrrV9BF98XbW2GtnxeI2iz\n\
        Tx+mZrPxs5uYEDUdQ0YYFkxsh2cZoeswdmj0BtP7SpWyU8KAWvDggmwrjZlR6Yir\n\
        AQIDAQAB\n\
        -----END PUBLIC KEY-----";
    const RSA_PKCS1: &str = "-----BEGIN RSA PUBLIC KEY-----\n\
        MIIBCgKCAQEApFFiwvZXrVXnmI/EVgtgW3HILFy3CY5LlTb+kRPbX706djFHhutd\n\
        7YA47F+8h4ZGeHk2j1E4D1qmzoULxKses3hnSnwkdNQdM0RrCrgbpYrghXIsTTcY\n\
        LTWO1Qi6I17TstQdjXzSs4lwBXJ6AdFfW29q4r7LQ9T2g0MACy6+UmWggZyV6jYE\n\
        F1zSrkQH+tEHAQaSv3+yYEVvuiy9tlcZFk3eqEsim8FRsLBquBcMg73Jql8Q8YdZ\n\
        Ut483+cLngHrrV9BF98XbW2GtnxeI2izTx+mZrPxs5uYEDUdQ0YYFkxsh2cZoesw\n\
        dmj0BtP7SpWyU8KAWvDggmwrjZlR6YirAQIDAQAB\n\
        -----END RSA PUBLIC KEY-----";
    const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDe0Y6QVIJ9KMp9ukTfk9BP8isY\n\
        u6W/EV6UEnn3vh77oTbk0s0wLNOqPaHiVj195wQvjNenoxNkwK/TBCcQGyL1Ye56\n\
        DoRbOvpAEl7Xzcn4SDqDPfMadyk8NZW4GClYezxXHbKYD3snXeyst9LjRLrEMGdW\n\
        T4Ljh1GlCYIDAwCm4QIDAQAB\n\
        -----END PUBLIC KEY-----";
    const P256_SPKI: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELlwsx1aKjcWV18nJu34qnnKm+L8Q\n\
        QAZHD01rvuTW0va/QBqEZNf1bL3JS0BQTWGQ1ATjIkNqkakxMjoKO1wp4g==\n\
        -----END PUBLIC KEY-----";
    const P384_SPKI: &str = "-----BEGIN PUBLIC KEY-----\n\
        MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEhpFYYAqmX4DZYyx3CN5gGT27oIvXXZis\n\
        Kb341AOIIfYrH47ud3jGCDrb9+MRo7BqkwPPH2kWeNh6mYQ9ehpylpWcFaQuwrSA\n\
        bk/1DtrUX3dhslFc/AvoKgqReU64tQs1\n\
        -----END PUBLIC KEY-----";
    const ED25519_SPKI: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEA5EnDUV3hgaWX5RprPmPgoXjugFpnryj7sMiqiSZAkCo=\n\
        -----END PUBLIC KEY-----";

    #[test]
    fn one_key_in_two_forms_is_one() {
        let spki = PublicKey::parse(RSA_SPKI).unwrap();
        assert_eq!(PublicKey::parse(RSA_PKCS1).unwrap(), spki);
        assert_eq!(PublicKey::parse(&spki.pem).unwrap(), spki);
        assert_eq!(PublicKey::parse(&RSA_SPKI.replace('\n', "\r\n")).unwrap(), spki);
    }

    #[test]
    fn every_kind_that_is_promised_is_taken() {
        for key in [RSA_SPKI, P256_SPKI, ED25519_SPKI] {
            assert!(PublicKey::parse(key).is_ok(), "{key}");
        }
    }

    #[test]
    fn what_is_no_key_for_us_is_refused_with_the_reason() {
        for key in [RSA_1024, P384_SPKI] {
            assert_eq!(PublicKey::parse(key), Err(PublicKeyError::Unsupported));
        }
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----";
        assert_eq!(PublicKey::parse(private), Err(PublicKeyError::Private));
        assert_eq!(PublicKey::parse(&"x".repeat(5000)), Err(PublicKeyError::TooLong));
        // A point that is not on the curve.
        let off = P256_SPKI.replacen("AQcDQgAE", "AQcDQgAEAAAA", 1);
        for text in ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", &off] {
            assert!(PublicKey::parse(text).is_err(), "{text}");
        }
    }
}
