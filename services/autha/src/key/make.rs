//! Making and opening of keys: ES256, sealed under the master key.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{DecodingKey, EncodingKey};
use orrery_seal::{Sealer, sha256};
use serde_json::{Value, json};

use super::{KeyError, SigningKey};

/// A key as it is written down.
pub struct Made {
    /// Its id: the start of the digest of its public point.
    pub kid: String,
    /// PKCS#8, sealed for the id.
    pub sealed: String,
    /// Its public side.
    pub public_jwk: Value,
}

/// A new key.
///
/// # Errors
/// When the library refuses.
pub fn make(sealer: &Sealer) -> Result<Made, KeyError> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Library)?;
    let document = pair.to_pkcs8v1().map_err(|_| KeyError::Library)?;
    // An uncompressed point: 4, then x and y of 32 bytes each.
    let point = pair.public_key().as_ref();
    let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else { return Err(KeyError::Library) };
    let kid = hex::encode(sha256(point).get(..8).unwrap_or_default());
    let sealed =
        sealer.seal(document.as_ref(), &kid).map_err(|source| KeyError::Seal { kid: kid.clone(), source })?;
    let public_jwk = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
        "x": BASE64.encode(x), "y": BASE64.encode(y),
    });
    Ok(Made { kid, sealed, public_jwk })
}

/// Opens a key.
///
/// # Errors
/// When it was sealed under a key that is not in the ring, or is damaged.
pub fn open(
    sealer: &Sealer,
    kid: &str,
    sealed: &str,
    jwk: &Value,
    is_active: bool,
) -> Result<SigningKey, KeyError> {
    let der = sealer.open(sealed, kid).map_err(|source| KeyError::Seal { kid: kid.to_owned(), source })?;
    let text = |name| jwk.get(name).and_then(Value::as_str).unwrap_or_default();
    let decoding = DecodingKey::from_ec_components(text("x"), text("y")).map_err(|_| KeyError::Library)?;
    Ok(SigningKey {
        kid: kid.to_owned(),
        encoding: EncodingKey::from_ec_der(&der),
        decoding,
        jwk: jwk.clone(),
        is_active,
    })
}
