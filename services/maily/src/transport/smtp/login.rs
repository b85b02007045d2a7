//! What is logged in with, and how (RFC 4954: PLAIN, LOGIN, and Google's and Microsoft's XOAUTH2).

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use secrecy::{ExposeSecret as _, SecretString};

use super::session::Failure;
use crate::config::{Authentication, Relay};

/// The account at a server.
pub(super) struct Credentials {
    username: String,
    password: Password,
    wanted: Authentication,
}

enum Password {
    Known(SecretString),
    /// Read at each log-in: an access token is good for an hour, and somebody writes the next one there.
    File(PathBuf),
}

/// A mechanism of log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    Plain,
    Login,
    Xoauth2,
}

impl Mechanism {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::Xoauth2 => "XOAUTH2",
        }
    }
}

impl Credentials {
    pub(super) fn new(config: &Relay) -> Option<Self> {
        let password = match (&config.password, &config.password_file) {
            (Some(password), _) => Password::Known(password.clone()),
            (None, Some(path)) => Password::File(path.clone()),
            (None, None) => return None,
        };
        Some(Self { username: config.username.clone()?, password, wanted: config.authentication })
    }

    /// The mechanism that was asked for, or the first of ours that the server offers.
    pub(super) fn mechanism(&self, offered: &[String]) -> Result<Mechanism, Failure> {
        let is_offered = |mechanism: &Mechanism| offered.iter().any(|name| name == mechanism.name());
        match self.wanted {
            Authentication::Plain => Ok(Mechanism::Plain),
            Authentication::Login => Ok(Mechanism::Login),
            Authentication::Xoauth2 => Ok(Mechanism::Xoauth2),
            Authentication::Auto => [Mechanism::Plain, Mechanism::Login].into_iter().find(is_offered).ok_or(
                Failure::Missing("the server offers neither AUTH PLAIN nor LOGIN: look at tls (some offer it only when encrypted) and authentication"),
            ),
        }
    }

    /// What is said, one after the other: with the command, then to each challenge.
    pub(super) async fn steps(&self, mechanism: Mechanism) -> Result<Vec<String>, Failure> {
        let password = match &self.password {
            Password::Known(password) => password.clone(),
            Password::File(path) => {
                tokio::fs::read_to_string(path).await.map(|text| SecretString::from(trimmed(&text))).map_err(
                    |error| Failure::Ours(format!("the file of the password cannot be read: {error}")),
                )?
            }
        };
        let (username, password) = (&self.username, password.expose_secret());
        Ok(match mechanism {
            Mechanism::Plain => vec![BASE64.encode(format!("\0{username}\0{password}"))],
            // An old mechanism asks for each: nothing goes with the command.
            Mechanism::Login => vec![String::new(), BASE64.encode(username), BASE64.encode(password)],
            Mechanism::Xoauth2 => {
                vec![BASE64.encode(format!("user={username}\u{1}auth=Bearer {password}\u{1}\u{1}"))]
            }
        })
    }
}

/// A file's content as a secret: without the mark that some editors begin a file with, and the line end that they end it with.
pub(super) fn trimmed(text: &str) -> String {
    text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(wanted: Authentication) -> Credentials {
        Credentials { username: "u".into(), password: Password::Known("p".into()), wanted }
    }

    #[tokio::test]
    async fn each_mechanism_says_what_its_document_has() {
        let credentials = credentials(Authentication::Auto);
        assert_eq!(credentials.steps(Mechanism::Plain).await.unwrap(), ["AHUAcA=="]);
        assert_eq!(credentials.steps(Mechanism::Login).await.unwrap(), ["", "dQ==", "cA=="]);
        let step = credentials.steps(Mechanism::Xoauth2).await.unwrap().concat();
        assert_eq!(BASE64.decode(step).unwrap(), b"user=u\x01auth=Bearer p\x01\x01");
    }

    #[test]
    fn plain_comes_before_login_and_the_wanted_one_before_both() {
        let offered = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let auto = credentials(Authentication::Auto);
        assert!(matches!(auto.mechanism(&offered(&["LOGIN", "PLAIN"])), Ok(Mechanism::Plain)));
        assert!(matches!(auto.mechanism(&offered(&["LOGIN"])), Ok(Mechanism::Login)));
        assert!(matches!(auto.mechanism(&offered(&["XOAUTH2"])), Err(Failure::Missing(_))));
        let wanted = credentials(Authentication::Xoauth2);
        assert!(matches!(wanted.mechanism(&[]), Ok(Mechanism::Xoauth2)));
    }

    #[test]
    fn a_file_may_have_a_mark_and_a_line_end() {
        assert_eq!(trimmed("\u{feff}a b \r\n"), "a b ");
    }
}
