//! Password hashes as other systems write them, in the form in which they are kept (`password::ForeignHash`).

use base64::Engine;
use serde_json::Value;

use super::formats::{FirebaseParameters, Refused};
use crate::password::{BASE64, ForeignHash, Hasher, Pbkdf2Digest};

fn refused(error: impl std::fmt::Display) -> Refused {
    Refused::new("hash", error.to_string())
}

/// A hash that names its own kind, if a login could verify it.
///
/// # Errors
/// When it is of no known kind, damaged or too costly.
pub fn checked(text: &str) -> Result<String, Refused> {
    let text = text.trim();
    if text.starts_with("$argon2") {
        Hasher::check(text).map_err(refused)?;
        return Ok(text.to_owned());
    }
    ForeignHash::parse(text).map(|hash| hash.to_text()).map_err(refused)
}

/// The texts `secretData` and `credentialData` of a credential of Keycloak, which are JSON themselves.
fn inner(credential: &Value, name: &str) -> Option<Value> {
    match credential.get(name)? {
        Value::String(text) => serde_json::from_str(text).ok(),
        value => Some(value.clone()),
    }
}

/// A password of Keycloak: PBKDF2, or Argon2 from 24 on.
///
/// # Errors
/// When it is of no known kind, or damaged.
pub fn keycloak(credential: &Value) -> Result<String, Refused> {
    let damaged = || Refused::new("hash", "the credential of Keycloak is damaged");
    let secret = inner(credential, "secretData").ok_or_else(damaged)?;
    let data = inner(credential, "credentialData").ok_or_else(damaged)?;
    let bytes = |name: &str| {
        let text = secret.get(name).and_then(Value::as_str).ok_or_else(damaged)?;
        BASE64.decode(text).map_err(|_| damaged())
    };
    let (hash, salt) = (bytes("value")?, bytes("salt")?);
    let iterations = data
        .get("hashIterations")
        .and_then(Value::as_u64)
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(damaged)?;
    let algorithm = data.get("algorithm").and_then(Value::as_str).unwrap_or_default();
    let digest = match algorithm {
        "pbkdf2" => Pbkdf2Digest::Sha1,
        "pbkdf2-sha256" => Pbkdf2Digest::Sha256,
        "pbkdf2-sha512" => Pbkdf2Digest::Sha512,
        "argon2" => {
            let parameter = |name: &str| {
                data.pointer(&format!("/additionalParameters/{name}/0"))
                    .and_then(Value::as_str)
                    .ok_or_else(damaged)
            };
            let version = if parameter("version")? == "1.0" { 16 } else { 19 };
            let text = format!(
                "$argon2{}$v={version}$m={},t={iterations},p={}${}${}",
                parameter("type")?,
                parameter("memory")?,
                parameter("parallelism")?,
                BASE64.encode(&salt),
                BASE64.encode(&hash)
            );
            return checked(&text);
        }
        _ => return Err(Refused::new("hash", "the credential of Keycloak is of a kind that is not known")),
    };
    checked(&ForeignHash::Pbkdf2 { digest, iterations, salt, hash }.to_text())
}

/// A TOTP secret of Keycloak, as base32: it keeps the text whose bytes are the secret.
pub fn keycloak_totp(credential: &Value) -> Option<String> {
    let data = inner(credential, "credentialData")?;
    let is_ours = data.get("subType").and_then(Value::as_str) == Some("totp")
        && data.get("digits").and_then(Value::as_u64) == Some(6)
        && data.get("period").and_then(Value::as_u64) == Some(30)
        && data.get("algorithm").and_then(Value::as_str) == Some("HmacSHA1");
    let secret = inner(credential, "secretData")?;
    let text = secret.get("value").and_then(Value::as_str)?;
    is_ours.then(|| totp_rs::Secret::from(text.as_bytes().to_vec()).to_base32())
}

/// A password of Firebase.
///
/// # Errors
/// When the project's parameters are not given, or something is damaged.
pub fn firebase(hash: &str, salt: &str, parameters: &FirebaseParameters) -> Result<String, Refused> {
    if parameters.signer_key.is_empty() {
        return Err(Refused::new("hash", "the hash parameters of the Firebase project are not given"));
    }
    // Firebase writes both of base64's alphabets.
    let bytes = |text: &str, what: &str| {
        BASE64
            .decode(text.replace('-', "+").replace('_', "/"))
            .map_err(|_| Refused::new("hash", format!("{what} is no base64")))
    };
    let hash = ForeignHash::Firebase {
        memory_cost: u8::try_from(parameters.memory_cost).map_err(refused)?,
        rounds: parameters.rounds,
        separator: bytes(&parameters.salt_separator, "the salt separator")?,
        signer_key: bytes(&parameters.signer_key, "the signer key")?,
        salt: bytes(salt, "the salt")?,
        hash: bytes(hash, "the hash")?,
    };
    checked(&hash.to_text())
}
