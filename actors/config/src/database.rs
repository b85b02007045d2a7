//! The section `database`: where PostgreSQL is and how many connections each service may hold.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Section, address::Address, secret};

/// PostgreSQL.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `postgres://user:password@host:port/database`, with libpq's `sslmode` and `sslrootcert` after a question mark.
    #[serde(serialize_with = "secret::hidden")]
    pub url: SecretString,
    /// The file that holds the address, instead of it.
    pub url_file: Option<PathBuf>,
    /// Connections per service and process.
    pub pool_size: usize,
    /// How long a request waits for a connection, a new one included, before it is answered 503.
    #[serde(with = "humantime_serde")]
    pub wait_timeout: Duration,
    /// The server ends a statement after this.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: SecretString::from("postgres://127.0.0.1:5432/orrery"),
            url_file: None,
            pool_size: 8,
            wait_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(3),
        }
    }
}

impl Database {
    /// What `url` says.
    ///
    /// # Errors
    /// The line of what is wrong.
    pub fn address(&self) -> Result<Address, String> {
        let url = self.url.expose_secret();
        match Url::parse(url) {
            Ok(parsed) if matches!(parsed.scheme(), "postgres" | "postgresql") => {
                Address::parse(url).map_err(|fault| format!("database.url: {fault}"))
            }
            _ => Err("database.url: is no address of PostgreSQL; write postgres://user:password@host:port/database"
                .to_owned()),
        }
    }
}

impl Section for Database {
    fn validate(&self, faults: &mut Vec<String>) {
        faults.extend(self.address().err());
        if !(2..=1000).contains(&self.pool_size) {
            faults.push("database.pool_size: must be 2 to 1000".to_owned());
        }
        for (name, value) in
            [("wait_timeout", self.wait_timeout), ("statement_timeout", self.statement_timeout)]
        {
            if value.is_zero() {
                faults.push(format!("database.{name}: must be above zero, such as 2s"));
            }
        }
    }
}
