//! Tokens made by hand: by keys of the test's own, and by the instance's, whose master key the test knows.

use anyhow::{Context, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use orrery_tests::World;
use serde_json::{Value, json};

/// The master key of a world whose instance's keys a test wants to use.
pub const MASTER: [u8; 32] = [7; 32];

/// The master key as it is configured.
pub fn master() -> String {
    STANDARD.encode(MASTER)
}

/// Base64 as JWTs have it.
pub fn part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A part of a JWT as JSON.
pub fn read(token: &str, index: usize) -> Result<Value> {
    let part = token.split('.').nth(index).context("no such part")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
}

/// Signs like the instance does (RFC 7518, section 3.4).
pub fn es256(key: &EcdsaKeyPair, header: &Value, claims: &Value) -> Result<String> {
    let text = format!("{}.{}", part(header.to_string()), part(claims.to_string()));
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).ok().context("signing")?;
    Ok(format!("{text}.{}", part(signature)))
}

/// Signs with a shared secret, as who takes a public key for one would.
pub fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let text = format!("{}.{}", part(header.to_string()), part(claims.to_string()));
    let signature = hmac::sign(&hmac::Key::new(HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", part(signature))
}

/// No signature at all.
pub fn unsigned(alg: &str, claims: &Value, kid: &str) -> String {
    let header = json!({"alg": alg, "typ": "JWT", "kid": kid});
    format!("{}.{}.", part(header.to_string()), part(claims.to_string()))
}

/// A key of the test's own.
pub fn own_key() -> Result<EcdsaKeyPair> {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok().context("generating a key")
}

/// The instance's own signing key: opened as `orrery_seal` does, written down a second time here.
pub async fn instances_key(world: &World) -> Result<(String, EcdsaKeyPair)> {
    let rows = world.database().rows("SELECT kid, sealed FROM autha.signing_keys").await?;
    let row = rows.first().context("no signing key")?;
    let kid = row["kid"].as_str().context("no kid")?.to_owned();
    let sealed = row["sealed"].as_str().and_then(|text| text.split('.').nth(2)).context("no sealed key")?;
    let mut bytes = URL_SAFE_NO_PAD.decode(sealed)?;
    let mut key = [0; 32];
    let extracted = Salt::new(HKDF_SHA256, b"orrery").extract(&MASTER);
    let expanded =
        extracted.expand(&[b"signing-keys", b"/", b"aead"], HKDF_SHA256).ok().context("expanding")?;
    expanded.fill(&mut key).ok().context("expanding")?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok().context("a key")?);
    let mut content = bytes.split_off(12);
    let nonce = Nonce::try_assume_unique_for_key(&bytes).ok().context("a nonce")?;
    let opened = key.open_in_place(nonce, Aad::from(kid.as_bytes()), &mut content).ok().context("opening")?;
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, opened).ok().context("reading a key")?;
    Ok((kid, key))
}
