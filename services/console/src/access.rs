//! Who may use the console: links that log in once, the sessions that come of them, and the proof that a form is ours. All are sealed texts, so that a log-in
//! works also while the database is away; which links are used up and which sessions ended stands in the database (`sessions` of `store`).

use std::time::Duration;

use chrono::{DateTime, Utc};
use orrery_config::keys::KeyRing;
use orrery_seal::{SealError, Sealer};
use orrery_supervise::random::Random;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// What the key is derived for.
const PURPOSE: &str = "console";
/// The longest name of an operator, in characters.
const NAME_LIMIT: usize = 64;

/// What a link or a session says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Of the link, and of the session that comes of it.
    pub id: Uuid,
    /// Whose it is: a name for the audit log.
    pub actor: String,
    /// When it ends, in seconds since 1970.
    pub expires: i64,
    /// Whether it comes of an account's log-in: then it lasts while that is an operator's.
    #[serde(default)]
    pub by_account: bool,
}

/// The kinds of sealed texts, so that one does not pass for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From `orrery console token`: logs in once.
    Link,
    /// The cookie's.
    Session,
    /// A program's, from `orrery console token --admin`: registers service providers, and opens no page.
    Admin,
    /// What one process shows another, to restart an actor there.
    Process,
}

impl Kind {
    const fn owner(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Session => "session",
            Self::Admin => "admin",
            Self::Process => "process",
        }
    }
}

/// Seals and opens passes.
pub struct Access {
    sealer: Sealer,
}

impl Access {
    /// By the console's key.
    ///
    /// # Errors
    /// When the cryptographic library refuses the key.
    pub fn new(ring: &KeyRing) -> Result<Self, SealError> {
        Ok(Self { sealer: Sealer::new(ring, PURPOSE)? })
    }

    /// A pass for somebody who is new.
    pub fn pass(random: &Random, actor: &str, now: DateTime<Utc>, lifetime: Duration) -> Pass {
        let actor: String = actor.chars().filter(|c| !c.is_control()).take(NAME_LIMIT).collect();
        Pass { id: random.uuid_v4(), actor, expires: end(now, lifetime), by_account: false }
    }

    /// The session that a link makes.
    pub fn session(link: &Pass, now: DateTime<Utc>, lifetime: Duration) -> Pass {
        Pass { expires: end(now, lifetime), ..link.clone() }
    }

    /// The text of a pass.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn seal(&self, kind: Kind, pass: &Pass) -> Result<String, SealError> {
        let plain = serde_json::to_vec(pass).map_err(|_| SealError::Malformed)?;
        self.sealer.seal(&plain, kind.owner())
    }

    /// The pass of a text, unless it is forged, of another kind, or over.
    pub fn open(&self, kind: Kind, text: &str, now: DateTime<Utc>) -> Option<Pass> {
        let plain = self.sealer.open(text, kind.owner()).ok()?;
        let pass: Pass = serde_json::from_slice(&plain).ok()?;
        (pass.expires > now.timestamp()).then_some(pass)
    }

    /// What every form of a session carries.
    ///
    /// # Errors
    /// When there is no key.
    pub fn form_token(&self, session: &Pass) -> Result<String, SealError> {
        Ok(hex::encode(self.sealer.mac(&form_text(session))?))
    }

    /// Whether a form carries that.
    pub fn is_form_token(&self, session: &Pass, token: &str) -> bool {
        let Ok(given) = hex::decode(token) else { return false };
        self.sealer.macs(&form_text(session)).iter().any(|mac| bool::from(mac.ct_eq(&given)))
    }
}

fn form_text(session: &Pass) -> Vec<u8> {
    format!("form {}", session.id).into_bytes()
}

fn end(now: DateTime<Utc>, lifetime: Duration) -> i64 {
    now.timestamp().saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn access(key: u8) -> Access {
        Access::new(&KeyRing::from_bytes([[key; 32]])).unwrap()
    }

    #[test]
    fn a_pass_is_opened_until_its_end_as_what_it_is_and_with_its_key() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let link = Access::pass(&Random::seeded(1), "ada", now, Duration::from_secs(60));
        let text = access(1).seal(Kind::Link, &link).unwrap();
        assert_eq!(access(1).open(Kind::Link, &text, now), Some(link.clone()));
        assert_eq!(access(1).open(Kind::Session, &text, now), None);
        assert_eq!(access(1).open(Kind::Admin, &text, now), None);
        assert_eq!(access(2).open(Kind::Link, &text, now), None);
        assert_eq!(access(1).open(Kind::Link, &text, now + TimeDelta::seconds(60)), None);
        for forged in ["", "v1", &format!("{text}A"), &text.replace("v1.", "v2.")] {
            assert_eq!(access(1).open(Kind::Link, forged, now), None, "{forged}");
        }
    }

    #[test]
    fn a_form_belongs_to_one_session() {
        let now = DateTime::UNIX_EPOCH;
        let (one, other) = (
            Access::pass(&Random::seeded(1), "ada", now, Duration::from_secs(60)),
            Access::pass(&Random::seeded(2), "ada", now, Duration::from_secs(60)),
        );
        let access = access(1);
        let token = access.form_token(&one).unwrap();
        assert!(access.is_form_token(&one, &token) && !access.is_form_token(&other, &token));
        assert!(!access.is_form_token(&one, "") && !access.is_form_token(&one, "zz"));
    }
}
