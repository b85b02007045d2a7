//! The mail command, from autha to maily: which mails there are and what each one needs. How its texts are sealed lives in `seal`, what
//! a mail says in maily.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    events::{EventData, event},
    ids::AccountId,
};

/// The queue of maily's handler; a command goes to it by the default exchange.
pub const QUEUE: &str = "maily.email";

/// What the mail key is derived for when an address is sealed: autha seals and maily opens under the same purpose, for the account as owner.
pub const SEAL_PURPOSE: &str = "mail";

/// As [`SEAL_PURPOSE`], for [`SendEmail::details`]: a purpose of its own, so that no tool that shows addresses opens a one-time link.
pub const DETAILS_PURPOSE: &str = "mail.details";

/// Sends one mail. A command with a one-time secret carries the secret's own expiry as its `expirytime`: later it is dropped, not sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendEmail {
    /// Whom it concerns; the owner that `to` and `details` are sealed for. A mail without an account (an invitation) has an id of its own.
    pub account: AccountId,
    /// BCP 47 tag of the language to write in.
    pub locale: String,
    /// Which mail.
    pub template: Template,
    /// The address, sealed for maily under [`SEAL_PURPOSE`].
    pub to: String,
    /// The name to greet with.
    pub username: String,
    /// The JSON text of [`Details`], sealed for maily under [`DETAILS_PURPOSE`]; none for a mail that needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}
event!(SendEmail, "com.gravitalia.email");

macro_rules! templates {
    ($($(#[$doc:meta])* $variant:ident = $name:literal needs [$($detail:ident),*],)+) => {
        /// The mails there are. The names are part of the contract with publishers; the first three are those of the legacy queue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Template {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl Template {
            /// Every mail.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in a command, of its folder of templates, and in logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The details without which this mail cannot be written; those beside them are optional.
            #[must_use]
            pub const fn required(self) -> &'static [Detail] {
                match self { $(Self::$variant => &[$(Detail::$detail),*]),+ }
            }
        }
    };
}

templates! {
    /// An account was created. May have `link` (to the platform).
    Welcome = "welcome" needs [],
    /// Data of the account was changed.
    DataUpdate = "data_update" needs [],
    /// Somebody signed in, from a new device as far as is known. May have `device`, `network`, `link` (to end the session).
    Login = "login" needs [],
    /// Proves an address at sign-up. May have `code`.
    Verify = "verify" needs [Link, Until],
    /// Sets a new password for somebody who forgot it. May have `code`.
    Recover = "recover" needs [Link, Until],
    /// To the new address: confirms that it is to be the account's. May have `code`.
    ConfirmAddress = "confirm_address" needs [Link, Until],
    /// To the old address: another one (`address`, whole or masked) took its place; `link` takes it back until `until`.
    AddressChanged = "address_changed" needs [Address, Link, Until],
    /// To the owner of an address with which somebody tried to sign up again. May have `link` (to log in or to recover).
    AddressTaken = "address_taken" needs [],
    /// The password was changed. May have `device`, `network`, `link` (to recover).
    PasswordChanged = "password_changed" needs [],
    /// A second factor was changed. May have `device`, `network`, `codes_left`, `link`.
    SecondFactorChanged = "second_factor_changed" needs [Change],
    /// The account will be deleted at `until`. May have `link` (to keep it).
    DeletionScheduled = "deletion_scheduled" needs [Until],
    /// The account and what belonged to it is deleted.
    DeletionDone = "deletion_done" needs [],
    /// The archive of everything held about a person can be fetched once, until `until`. May have `size_bytes`.
    ExportReady = "export_ready" needs [Link, Until],
    /// An invitation to sign up. May have `code`, `inviter`.
    Invite = "invite" needs [Link, Until],
    /// An operator suspended the account. May have `reason`, `until`.
    Suspended = "suspended" needs [],
    /// To the owner of a third party: an endpoint is not delivered to any more. May have `reason`, with the endpoint's address.
    EndpointDisabled = "endpoint_disabled" needs [],
}

/// What only the reader of a mail may see, and one-time secrets among it. It travels sealed, so nothing of it stands in a listing or a
/// log. Its `Debug` shows which fields are there and no value.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Details {
    /// The whole URL to follow, `https:` (or `http:` to try things out).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// A one-time code to type in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When the link, the code or the grace period ends, or what is announced happens: RFC 3339, as the event's `time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The other address of a change of address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The device or browser, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The network or place, in words or as an IP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What became of the second factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<SecondFactorChange>,
    /// Recovery codes that are not used yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes_left: Option<u32>,
    /// Size of an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Who invites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inviter: Option<String>,
    /// Why an account is suspended, or an endpoint disabled, in words for its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A detail that a mail can need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// [`Details::link`].
    Link,
    /// [`Details::until`].
    Until,
    /// [`Details::address`].
    Address,
    /// [`Details::change`].
    Change,
}

/// What became of a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondFactorChange {
    /// One-time codes of an application (TOTP) are asked for from now on.
    TotpEnabled,
    /// They are not asked for any more.
    TotpDisabled,
    /// New recovery codes took the place of the old ones.
    CodesReplaced,
    /// A recovery code was used to sign in.
    CodeUsed,
    /// A passkey was added.
    PasskeyAdded,
    /// A passkey was removed.
    PasskeyRemoved,
    /// An operator took the second factor away.
    Reset,
}

impl Details {
    /// Those that `template` needs and that are not here, or are empty.
    #[must_use]
    pub fn missing(&self, template: Template) -> Vec<Detail> {
        let has_text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        let is_missing = |detail: &Detail| match detail {
            Detail::Link => !has_text(&self.link),
            Detail::Until => !has_text(&self.until),
            Detail::Address => !has_text(&self.address),
            Detail::Change => self.change.is_none(),
        };
        template.required().iter().copied().filter(is_missing).collect()
    }
}

/// A name that is no mail's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no mail has this name")]
pub struct UnknownTemplate;

impl FromStr for Template {
    type Err = UnknownTemplate;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|template| template.name() == name).ok_or(UnknownTemplate)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "link",
            Self::Until => "until",
            Self::Address => "address",
            Self::Change => "change",
        })
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            link,
            code,
            until,
            address,
            device,
            network,
            change,
            codes_left,
            size_bytes,
            inviter,
            reason,
        } = self;
        let there = [
            ("link", link.is_some()),
            ("code", code.is_some()),
            ("until", until.is_some()),
            ("address", address.is_some()),
            ("device", device.is_some()),
            ("network", network.is_some()),
            ("change", change.is_some()),
            ("codes_left", codes_left.is_some()),
            ("size_bytes", size_bytes.is_some()),
            ("inviter", inviter.is_some()),
            ("reason", reason.is_some()),
        ];
        f.debug_set().entries(there.iter().filter(|(_, there)| *there).map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_json_are_one() {
        for template in Template::ALL {
            assert_eq!(serde_json::to_value(template).unwrap(), template.name());
            assert_eq!(template.name().parse(), Ok(*template));
        }
        assert_eq!("Welcome".parse::<Template>(), Err(UnknownTemplate));
    }

    #[test]
    fn a_missing_or_empty_detail_is_named() {
        let details = Details { link: Some(" ".into()), ..Details::default() };
        assert_eq!(details.missing(Template::Verify), [Detail::Link, Detail::Until]);
        assert_eq!(details.missing(Template::Welcome), []);
        let details = Details { change: Some(SecondFactorChange::Reset), ..Details::default() };
        assert_eq!(details.missing(Template::SecondFactorChanged), []);
    }

    #[test]
    fn debug_shows_no_value() {
        let details = Details { link: Some("https://x.example/abc".into()), ..Details::default() };
        assert_eq!(format!("{details:?}"), r#"{"link"}"#);
    }

    #[test]
    fn a_command_of_before_is_still_read() {
        let text = r#"{"account":"01957f3e-8c1a-7d2b-9a55-0123456789ab","locale":"en","template":"data_update","to":"v1.0.a","username":"ada"}"#;
        let command: SendEmail = serde_json::from_str(text).unwrap();
        assert_eq!((command.template, command.details.as_deref()), (Template::DataUpdate, None));
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
    }
}
