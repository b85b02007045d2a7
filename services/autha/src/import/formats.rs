//! What a dump of another system looks like: a row is read as a JSON object, and an account is made of it. Nothing is written here.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    str::FromStr,
};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::hashes;

/// Systems that accounts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON objects, one a line, with our own names; what `orrery account export` writes.
    JsonLines,
    /// CSV with a head line of our own names.
    Csv,
    /// `auth.users` of Supabase, as CSV or JSON lines.
    Supabase,
    /// Auth0's export with hashes, JSON lines.
    Auth0,
    /// A realm of Keycloak, one JSON document.
    Keycloak,
    /// The table `users` of Rauthy, as CSV or JSON lines.
    Rauthy,
    /// `firebase auth:export`, one JSON document.
    Firebase,
}

/// The project's parameters of Firebase's scrypt, from its console.
#[derive(Debug, Clone, Default)]
pub struct FirebaseParameters {
    /// `base64_signer_key`.
    pub signer_key: String,
    /// `base64_salt_separator`.
    pub salt_separator: String,
    /// `rounds`.
    pub rounds: u32,
    /// `mem_cost`.
    pub memory_cost: u32,
}

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such file, or no right to read it.
    #[error("the file cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is no JSON, or holds no list of users.
    #[error("the file is no dump of this format: {0}")]
    Shape(String),
}

/// An account that is to be made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arriving {
    /// The name.
    pub id: String,
    /// The name that is shown.
    pub username: Option<String>,
    /// The address.
    pub email: String,
    /// Whether the address was verified.
    pub email_verified: bool,
    /// The password's hash as it is kept; none where its owner has to set one.
    pub password_hash: Option<String>,
    /// A TOTP secret, base32.
    pub totp_secret: Option<String>,
    /// The language.
    pub locale: Option<String>,
    /// A few words.
    pub summary: Option<String>,
    /// When it came to be.
    pub created_at: Option<DateTime<Utc>>,
    /// Whether nobody may log in.
    pub suspended: bool,
    /// Public keys, PEM.
    pub public_keys: Vec<String>,
}

/// Why a row is left out; the text names no person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// A stable code.
    pub code: &'static str,
    /// Why, and what to do.
    pub reason: String,
}

impl Refused {
    pub(super) fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "jsonl" => Self::JsonLines,
            "csv" => Self::Csv,
            "supabase" => Self::Supabase,
            "auth0" => Self::Auth0,
            "keycloak" => Self::Keycloak,
            "rauthy" => Self::Rauthy,
            "firebase" => Self::Firebase,
            _ => return Err("must be jsonl, csv, supabase, auth0, keycloak, rauthy or firebase".to_owned()),
        })
    }
}

impl Format {
    /// As it stands in the table of imports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Csv => "csv",
            Self::Supabase => "supabase",
            Self::Auth0 => "auth0",
            Self::Keycloak => "keycloak",
            Self::Rauthy => "rauthy",
            Self::Firebase => "firebase",
        }
    }
}

/// The rows of a file, one after another.
pub type Rows = Box<dyn Iterator<Item = Result<Map<String, Value>, Refused>> + Send>;

/// Opens a file. Lines and CSV are read as they are needed, a single document at once.
///
/// # Errors
/// When it cannot be read, or is of another shape.
pub fn rows(format: Format, path: &Path) -> Result<Rows, ReadError> {
    let mut reader = BufReader::new(File::open(path)?);
    match format {
        Format::Keycloak | Format::Firebase => {
            let document: Value =
                serde_json::from_reader(reader).map_err(|error| ReadError::Shape(error.to_string()))?;
            let Some(Value::Array(users)) = document.get("users").cloned() else {
                return Err(ReadError::Shape("there is no list 'users' in it".to_owned()));
            };
            Ok(Box::new(users.into_iter().map(object)))
        }
        Format::Csv => Ok(csv_rows(reader)),
        Format::JsonLines | Format::Auth0 => Ok(json_lines(reader)),
        Format::Supabase | Format::Rauthy => {
            let is_json = reader.fill_buf()?.first() == Some(&b'{');
            Ok(if is_json { json_lines(reader) } else { csv_rows(reader) })
        }
    }
}

fn object(value: Value) -> Result<Map<String, Value>, Refused> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(Refused::new("no_object", "the row is no JSON object")),
    }
}

fn json_lines(reader: BufReader<File>) -> Rows {
    let lines = reader.lines().filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty()));
    Box::new(lines.map(|line| {
        let line = line.map_err(|error| Refused::new("unreadable", error.to_string()))?;
        let value = serde_json::from_str(&line).map_err(|error| {
            Refused::new("no_json", format!("the line is no JSON, at column {}", error.column()))
        })?;
        object(value)
    }))
}

fn csv_rows(reader: impl Read + Send + 'static) -> Rows {
    let reader = csv::ReaderBuilder::new().flexible(false).from_reader(reader);
    Box::new(reader.into_deserialize::<Map<String, Value>>().map(|row| {
        let row =
            row.map_err(|_| Refused::new("no_csv", "the line has another number of fields than the head"))?;
        // CSV knows no null: an empty field is none.
        Ok(row.into_iter().filter(|(_, value)| value.as_str() != Some("")).collect())
    }))
}

fn text(row: &Map<String, Value>, name: &str) -> Option<String> {
    match row.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    }
}

fn flag(row: &Map<String, Value>, name: &str) -> Option<bool> {
    match row.get(name)? {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => Some(matches!(text.as_str(), "true" | "t" | "1" | "yes")),
        Value::Number(number) => Some(number.as_i64() != Some(0)),
        _ => None,
    }
}

/// RFC 3339, PostgreSQL's own form, or seconds or milliseconds since the epoch.
fn time(row: &Map<String, Value>, name: &str) -> Option<DateTime<Utc>> {
    let text = text(row, name)?;
    if let Ok(number) = text.parse::<i64>() {
        return if number > 100_000_000_000 {
            DateTime::from_timestamp_millis(number)
        } else {
            DateTime::from_timestamp(number, 0)
        };
    }
    let text = text.replacen(' ', "T", 1);
    let text = if text.ends_with("+00") { format!("{text}:00") } else { text };
    DateTime::parse_from_rfc3339(&text).ok().map(|time| time.with_timezone(&Utc))
}

/// The account that a row is of.
///
/// # Errors
/// Why it is none.
pub fn arriving(
    format: Format,
    row: &Map<String, Value>,
    firebase: &FirebaseParameters,
) -> Result<Arriving, Refused> {
    let email = text(row, "email").ok_or_else(|| Refused::new("no_email", "the row has no address"))?;
    let known = |names: &[&str]| names.iter().find_map(|name| text(row, name));
    let mut arriving = Arriving {
        email,
        locale: known(&["locale", "language", "lang"]),
        created_at: ["created_at", "createdAt", "createdTimestamp", "created"]
            .iter()
            .find_map(|name| time(row, name)),
        ..Arriving::default()
    };
    let mut name = known(&["id", "username", "preferred_username"]);
    match format {
        Format::JsonLines | Format::Csv => {
            arriving.username = text(row, "username");
            arriving.summary = text(row, "summary");
            arriving.email_verified = flag(row, "email_verified").unwrap_or(false);
            arriving.suspended = flag(row, "suspended").unwrap_or(false);
            arriving.totp_secret = text(row, "totp_secret");
            arriving.password_hash =
                text(row, "password_hash").map(|hash| hashes::checked(&hash)).transpose()?;
            if let Some(Value::Array(keys)) = row.get("public_keys") {
                arriving.public_keys = keys.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            }
        }
        Format::Supabase => {
            // Their `id` is a UUID: a name is looked for in what the application kept.
            let meta = match row.get("raw_user_meta_data") {
                Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
                Some(Value::Object(meta)) => meta.clone(),
                _ => Map::new(),
            };
            name = ["username", "user_name", "preferred_username"].iter().find_map(|name| text(&meta, name));
            arriving.username = ["name", "full_name"].iter().find_map(|name| text(&meta, name));
            arriving.email_verified =
                row.contains_key("email_confirmed_at") && row.get("email_confirmed_at") != Some(&Value::Null);
            arriving.suspended = time(row, "banned_until").is_some();
            arriving.password_hash =
                text(row, "encrypted_password").map(|hash| hashes::checked(&hash)).transpose()?;
        }
        Format::Auth0 => {
            name = text(row, "username").or_else(|| text(row, "nickname"));
            arriving.username = text(row, "name");
            arriving.email_verified = flag(row, "email_verified").unwrap_or(false);
            arriving.suspended = flag(row, "blocked").unwrap_or(false);
            arriving.password_hash =
                known(&["passwordHash", "password_hash"]).map(|hash| hashes::checked(&hash)).transpose()?;
        }
        Format::Keycloak => {
            name = text(row, "username");
            arriving.email_verified = flag(row, "emailVerified").unwrap_or(false);
            arriving.suspended = !flag(row, "enabled").unwrap_or(true);
            let full = [text(row, "firstName"), text(row, "lastName")];
            let full: Vec<String> = full.into_iter().flatten().collect();
            arriving.username = (!full.is_empty()).then(|| full.join(" "));
            for credential in row.get("credentials").and_then(Value::as_array).into_iter().flatten() {
                match credential.get("type").and_then(Value::as_str) {
                    Some("password") => arriving.password_hash = Some(hashes::keycloak(credential)?),
                    Some("otp") => arriving.totp_secret = hashes::keycloak_totp(credential),
                    _ => {}
                }
            }
        }
        Format::Rauthy => {
            name = known(&["preferred_username", "username"]);
            arriving.username = text(row, "given_name");
            arriving.email_verified = flag(row, "email_verified").unwrap_or(false);
            arriving.suspended = !flag(row, "enabled").unwrap_or(true);
            arriving.password_hash = text(row, "password").map(|hash| hashes::checked(&hash)).transpose()?;
        }
        Format::Firebase => {
            name = text(row, "customUsername");
            arriving.username = text(row, "displayName");
            arriving.email_verified = flag(row, "emailVerified").unwrap_or(false);
            arriving.suspended = flag(row, "disabled").unwrap_or(false);
            if let (Some(hash), Some(salt)) = (text(row, "passwordHash"), text(row, "salt")) {
                arriving.password_hash = Some(hashes::firebase(&hash, &salt, firebase)?);
            }
        }
    }
    arriving.id = name.unwrap_or_else(|| from_address(&arriving.email));
    Ok(arriving)
}

/// A name for somebody who had none: what stands before the `@`, of the characters that a name may have.
fn from_address(email: &str) -> String {
    let local = email.split(['@', '+']).next().unwrap_or_default();
    let name: String =
        local.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(64).collect();
    if name.len() < 2 { format!("{name}_") } else { name }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(format: Format, row: Value) -> Result<Arriving, Refused> {
        let firebase = FirebaseParameters {
            signer_key:
                "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
                    .to_owned(),
            salt_separator: "Bw==".to_owned(),
            rounds: 8,
            memory_cost: 14,
        };
        arriving(format, row.as_object().unwrap(), &firebase)
    }

    #[test]
    fn a_user_of_each_system_becomes_an_account() {
        let bcrypt = "$2b$05$qhbsZmlxUtdnXCxb8w7.Hu5uKoCRdixF7ZbKXJpHzkE66zCEJbYPm";
        let supabase = read(
            Format::Supabase,
            json!({"id": "5f2c", "email": "ada@example.org", "encrypted_password": bcrypt, "email_confirmed_at": "2024-01-02 03:04:05.6+00",
                "raw_user_meta_data": "{\"username\": \"ada\"}", "created_at": "2024-01-02 03:04:05.6+00"}),
        )
        .unwrap();
        assert_eq!((supabase.id.as_str(), supabase.email_verified), ("ada", true));
        assert_eq!(supabase.password_hash.as_deref(), Some(bcrypt));
        assert!(supabase.created_at.is_some());
        let auth0 = read(
            Format::Auth0,
            json!({"email": "a.b@example.org", "passwordHash": bcrypt, "email_verified": true}),
        )
        .unwrap();
        assert_eq!(auth0.id, "a_b");
        let keycloak = read(
            Format::Keycloak,
            json!({"username": "ada", "email": "ada@example.org", "enabled": false, "createdTimestamp": 1_700_000_000_000_i64,
                "credentials": [{"type": "password", "secretData": "{\"value\":\"aGFzaGhhc2hoYXNoaGFzaA==\",\"salt\":\"c2FsdHNhbHQ=\"}",
                    "credentialData": "{\"hashIterations\":27500,\"algorithm\":\"pbkdf2-sha256\"}"}]}),
        )
        .unwrap();
        assert!(keycloak.suspended);
        assert!(keycloak.password_hash.is_some_and(|hash| hash.starts_with("$pbkdf2-sha256$i=27500$")));
        let firebase = read(
            Format::Firebase,
            json!({"localId": "x", "email": "ada@example.org", "salt": "42xEC+ixf3L2lw==",
                "passwordHash": "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="}),
        )
        .unwrap();
        let hash = crate::password::ForeignHash::parse(firebase.password_hash.as_deref().unwrap()).unwrap();
        assert!(hash.verify(b"user1password"));
        let rauthy = read(
            Format::Rauthy,
            json!({"email": "ada@example.org", "password": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "enabled": "true"}),
        )
        .unwrap();
        assert!(rauthy.password_hash.is_some() && !rauthy.suspended);
    }

    #[test]
    fn what_cannot_be_taken_is_told_without_its_person() {
        let refused = read(Format::JsonLines, json!({"id": "ada"})).unwrap_err();
        assert_eq!(refused.code, "no_email");
        let refused =
            read(Format::JsonLines, json!({"email": "ada@example.org", "password_hash": "md5:secret"}))
                .unwrap_err();
        assert_eq!(refused.code, "hash");
        assert!(!refused.reason.contains("ada") && !refused.reason.contains("secret"), "{refused:?}");
    }
}
