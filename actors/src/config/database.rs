//! The section `database`: where PostgreSQL is and how many connections each service may hold.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::Section;

/// PostgreSQL.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `postgres://user:password@host:port/database`.
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

impl Section for Database {
    fn validate(&self, faults: &mut Vec<String>) {
        match Url::parse(self.url.expose_secret()) {
            Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => {}
            _ => faults.push(
                "database.url: is no address of PostgreSQL; write postgres://user:password@host:port/database"
                    .to_owned(),
            ),
        }
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
