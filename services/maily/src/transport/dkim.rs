//! Signs messages (DKIM: RFC 6376; Ed25519: RFC 8463), with the project's own cryptographic library. Which key signs for whom stands in
//! the configuration; what a DNS record must say is in `record`.

use std::{fs, path::PathBuf};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa,
    signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, Utc};
use lettre::message::Mailbox;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use secrecy::ExposeSecret as _;

use crate::config::DkimKey;

/// The header fields that are signed where they are there. `From` is named once more than it is there, so that nobody can add one.
const SIGNED: [&str; 10] = [
    "from",
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-language",
    "auto-submitted",
];
/// Bytes of an RSA key below which receivers no longer believe it (RFC 8301, section 3.2).
const RSA_LEAST: usize = 128;

/// Why a key cannot sign. The text names the selector, never the key.
#[derive(Debug, thiserror::Error)]
pub enum DkimError {
    /// The file cannot be read.
    #[error("maily.dkim ({selector}): {} cannot be read: {source}", path.display())]
    File {
        /// Which key.
        selector: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no private key.
    #[error(
        "maily.dkim ({0}): is no private key in PEM (make one: openssl genpkey -algorithm ed25519, or -algorithm rsa -pkeyopt rsa_keygen_bits:2048)"
    )]
    Key(String),
    /// It is too short for anybody to believe it.
    #[error("maily.dkim ({0}): an RSA key needs at least 1024 bits, and should have 2048")]
    Short(String),
    /// The library refused to sign.
    #[error("the message cannot be signed")]
    Sign,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// One key that signs for one domain.
pub(super) struct Signer {
    domain: String,
    selector: String,
    key: Key,
}

impl Signer {
    /// Reads the key; the domain is the sender's when none is given.
    ///
    /// # Errors
    /// When there is no key that could be used.
    pub(super) fn new(config: &DkimKey, from: &Mailbox) -> Result<Self, DkimError> {
        let selector = config.selector.clone();
        let pem = match (&config.key, &config.key_file) {
            (Some(key), _) => key.expose_secret().as_bytes().to_vec(),
            (None, Some(path)) => fs::read(path).map_err(|source| DkimError::File {
                selector: selector.clone(),
                path: path.clone(),
                source,
            })?,
            (None, None) => Vec::new(),
        };
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| DkimError::Key(selector.clone()))?;
        let key = match &key {
            PrivateKeyDer::Pkcs8(der) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
                .map(|pair| Key::Ed25519(Box::new(pair)))
                .or_else(|_| {
                    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map(|pair| Key::Rsa(Box::new(pair)))
                }),
            PrivateKeyDer::Pkcs1(der) => {
                RsaKeyPair::from_der(der.secret_pkcs1_der()).map(|pair| Key::Rsa(Box::new(pair)))
            }
            _ => return Err(DkimError::Key(selector)),
        };
        let key = key.map_err(|_| DkimError::Key(selector.clone()))?;
        if matches!(&key, Key::Rsa(pair) if pair.public_modulus_len() < RSA_LEAST) {
            return Err(DkimError::Short(selector));
        }
        let domain = config.domain.clone().unwrap_or_else(|| super::message::ascii_domain_of(from));
        Ok(Self { domain, selector, key })
    }

    /// The whole header field with its line end, for a message with CRLF line ends.
    ///
    /// # Errors
    /// When the library refuses.
    pub(super) fn header(&self, message: &[u8], now: DateTime<Utc>) -> Result<String, DkimError> {
        let (head, body) = split(message);
        let fields = fields(head);
        let mut names = Vec::new();
        let mut signed = String::new();
        let mut seen: Vec<&str> = Vec::new();
        for name in SIGNED {
            // The n-th mention of a name is the n-th field of that name from below; one too many is signed as empty.
            let before = seen.iter().filter(|other| **other == name).count();
            let field = fields.iter().rev().filter(|field| field.name.eq_ignore_ascii_case(name)).nth(before);
            seen.push(name);
            if let Some(field) = field {
                signed.push_str(&format!("{name}:{}\r\n", relaxed_value(field.value)));
            }
            if field.is_some() || before > 0 {
                names.push(name);
            }
        }
        let algorithm = match self.key {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        };
        let body_hash = BASE64.encode(digest(&SHA256, &relaxed_body(body)));
        let value = format!(
            "v=1; a={algorithm}; c=relaxed/relaxed; d={}; s={};\r\n t={}; h={};\r\n bh={body_hash};\r\n b=",
            self.domain,
            self.selector,
            now.timestamp(),
            names.join(":"),
        );
        // The field itself ends what is signed, without a line end and without the signature.
        signed.push_str(&format!("dkim-signature:{}", relaxed_value(&value)));
        let signature = BASE64.encode(self.sign(signed.as_bytes())?);
        Ok(format!("DKIM-Signature: {value}{}\r\n", folded(&signature)))
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, DkimError> {
        match &self.key {
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature)
                    .map_err(|_| DkimError::Sign)?;
                Ok(signature)
            }
            // Ed25519 signs the digest (RFC 8463, section 3).
            Key::Ed25519(pair) => Ok(pair.sign(digest(&SHA256, text).as_ref()).as_ref().to_vec()),
        }
    }

    /// Name and text of the DNS record that receivers look for.
    ///
    /// # Errors
    /// When the library cannot write the public key down.
    pub(super) fn record(&self) -> Result<(String, String), DkimError> {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        let (kind, key) = match &self.key {
            Key::Rsa(pair) => {
                let public: &rsa::PublicKey = pair.public_key();
                let der: PublicKeyX509Der<'_> = public.as_der().map_err(|_| DkimError::Sign)?;
                ("rsa", BASE64.encode(der.as_ref()))
            }
            Key::Ed25519(pair) => ("ed25519", BASE64.encode(pair.public_key().as_ref())),
        };
        Ok((format!("{}._domainkey.{}", self.selector, self.domain), format!("v=DKIM1; k={kind}; p={key}")))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("selector", &self.selector)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

struct Field<'a> {
    name: &'a str,
    value: &'a str,
}

/// Header and body; the empty line between belongs to neither.
fn split(message: &[u8]) -> (&str, &[u8]) {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = match end {
        Some(end) => (message.get(..end + 2), message.get(end + 4..)),
        None => (Some(message), None),
    };
    (std::str::from_utf8(head.unwrap_or_default()).unwrap_or_default(), body.unwrap_or_default())
}

/// The header's fields, each with what is folded into further lines.
fn fields(head: &str) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    let mut rest = head;
    while !rest.is_empty() {
        let mut end = 0;
        loop {
            end += rest.get(end..).and_then(|rest| rest.find("\r\n")).map_or(rest.len() - end, |at| at + 2);
            if !rest.get(end..).is_some_and(|next| next.starts_with([' ', '\t'])) {
                break;
            }
        }
        let (field, next) = rest.split_at(end);
        if let Some((name, value)) = field.split_once(':') {
            fields.push(Field { name: name.trim_end(), value });
        }
        rest = next;
    }
    fields
}

/// RFC 6376, section 3.4.2: unfolded, runs of white space are one space, none at either end.
fn relaxed_value(value: &str) -> String {
    value.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// RFC 6376, section 3.4.4: runs of white space within a line are one space, none at a line's end, no empty lines at the end.
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let mut relaxed = Vec::with_capacity(body.len());
    let mut empty_lines = 0_usize;
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let start = relaxed.len();
        let mut gap = false;
        for byte in line {
            if matches!(byte, b' ' | b'\t') {
                gap = true;
                continue;
            }
            if relaxed.len() == start {
                for _ in 0..std::mem::take(&mut empty_lines) {
                    relaxed.extend(b"\r\n");
                }
            }
            if std::mem::take(&mut gap) {
                relaxed.push(b' ');
            }
            relaxed.push(*byte);
        }
        if relaxed.len() == start {
            empty_lines += 1;
        } else {
            relaxed.extend(b"\r\n");
        }
    }
    relaxed
}

/// Base64 in lines that no server finds too long.
fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len() + text.len() / 24);
    for (number, char) in text.chars().enumerate() {
        if number > 0 && number % 72 == 0 {
            folded.push_str("\r\n ");
        }
        folded.push(char);
    }
    folded
}

#[cfg(test)]
mod tests;
