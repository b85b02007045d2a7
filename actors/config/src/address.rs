//! What `database.url` says: the server, and libpq's `sslmode` and `sslrootcert`. How a connection is then encrypted lives in `orrery_store::tls`.

use std::path::Path;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Config, Host, SslMode};

use super::authority::{Roots, certificates};

/// PostgreSQL's address.
#[derive(Debug, Clone)]
pub struct Address {
    /// The server, the user, and whether the connection is to be encrypted.
    pub server: Config,
    /// Which server is believed to be the one, when it is.
    pub trust: Trust,
}

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Whoever answers.
    Anyone,
    /// Whoever has a certificate from these.
    Authority(Roots),
    /// The same, and the certificate is for the host of the address.
    AuthorityAndName(Roots),
}

impl Address {
    /// Reads a URL, and the file that it names as `sslrootcert`.
    ///
    /// # Errors
    /// What is wrong and what to do; never a part of the URL that could be its password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut root, mut rest) = (None, None, Vec::new());
        for option in query.split('&').filter(|option| !option.is_empty()) {
            // These two are ours: tokio-postgres knows fewer modes, and no file.
            match option.split_once('=') {
                Some(("sslmode", value)) => mode = Some(decoded(value)),
                Some(("sslrootcert", value)) => root = Some(decoded(value)),
                _ => rest.push(option),
            }
        }
        let is_system = root.as_deref() == Some("system");
        let mode = match mode.as_deref() {
            None if is_system => "verify-full",
            None => "prefer",
            Some(mode) => mode,
        };
        if is_system && mode != "verify-full" {
            return Err("sslrootcert=system needs sslmode=verify-full".to_owned());
        }
        let roots = match root.filter(|_| !is_system && mode != "disable") {
            Some(file) => {
                let read = certificates(Path::new(&file));
                Some(Roots::Named(read.map_err(|fault| format!("sslrootcert: {file} {fault}"))?))
            }
            None => None,
        };
        let (encryption, trust) = match mode {
            "disable" => (SslMode::Disable, Trust::Anyone),
            // As libpq has it: who names an authority wants it to be looked at.
            "prefer" => (SslMode::Prefer, roots.map_or(Trust::Anyone, Trust::Authority)),
            "require" => (SslMode::Require, roots.map_or(Trust::Anyone, Trust::Authority)),
            "verify-ca" => (SslMode::Require, Trust::Authority(roots.unwrap_or(Roots::System))),
            "verify-full" => (SslMode::Require, Trust::AuthorityAndName(roots.unwrap_or(Roots::System))),
            _ => return Err("sslmode must be disable, prefer, require, verify-ca or verify-full".to_owned()),
        };
        let mut server: Config =
            format!("{place}?{}", rest.join("&")).parse().map_err(|error: tokio_postgres::Error| {
                let cause =
                    std::error::Error::source(&error).map_or_else(String::new, |cause| format!(" ({cause})"));
                format!("an option in it is wrong or not known{cause}")
            })?;
        // A socket in the file system is never encrypted.
        let is_local = !server.get_hosts().is_empty()
            && server.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        server.ssl_mode(if is_local { SslMode::Disable } else { encryption });
        Ok(Self { server, trust })
    }
}

fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &str) -> Result<(SslMode, Trust), String> {
        Address::parse(&format!("postgres://u:p@db/orrery{options}"))
            .map(|address| (address.server.get_ssl_mode(), address.trust))
    }

    #[test]
    fn modes_are_libpqs() {
        for (options, expected) in [
            ("", (SslMode::Prefer, Trust::Anyone)),
            ("?sslmode=disable&sslrootcert=/missing", (SslMode::Disable, Trust::Anyone)),
            ("?sslmode=prefer", (SslMode::Prefer, Trust::Anyone)),
            ("?sslmode=require", (SslMode::Require, Trust::Anyone)),
            ("?sslmode=verify-ca", (SslMode::Require, Trust::Authority(Roots::System))),
            ("?sslmode=verify%2Dfull", (SslMode::Require, Trust::AuthorityAndName(Roots::System))),
            ("?sslrootcert=system", (SslMode::Require, Trust::AuthorityAndName(Roots::System))),
        ] {
            assert_eq!(parsed(options), Ok(expected), "{options}");
        }
    }

    #[test]
    fn other_options_reach_the_server_as_they_are() {
        let address = Address::parse(
            "postgres://u:p%40@db:6432/orrery?options=-c%20geqo%3Doff&sslmode=require&connect_timeout=3",
        )
        .unwrap();
        assert_eq!(address.server.get_options(), Some("-c geqo=off"));
        assert_eq!(address.server.get_password(), Some(&b"p@"[..]));
        assert_eq!(address.server.get_connect_timeout(), Some(&std::time::Duration::from_secs(3)));
    }

    #[test]
    fn a_socket_in_the_file_system_is_not_encrypted() {
        let address = Address::parse("postgres://u@/orrery?host=/run/postgresql&sslmode=require").unwrap();
        assert_eq!(address.server.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn a_wrong_option_says_what_to_do() {
        let folder = std::env::temp_dir().join(format!("orrery-address-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let empty = folder.join("empty.pem");
        std::fs::write(&empty, "no certificate\n").unwrap();
        for (options, expected) in [
            ("?sslmode=allow", "sslmode must be disable, prefer, require, verify-ca or verify-full"),
            ("?sslmode=require&sslrootcert=system", "sslrootcert=system needs sslmode=verify-full"),
            ("?sslmode=verify-ca&sslrootcert=/missing.pem", "sslrootcert: /missing.pem cannot be read"),
            (&format!("?sslrootcert={}", empty.display()), "holds no certificate"),
            ("?sslcert=/client.pem", "sslcert"),
        ] {
            let fault = parsed(options).unwrap_err();
            assert!(fault.contains(expected), "{options}: {fault}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
