//! The events that travel on the topic exchange: their types and data. A published type never changes; a new version is added.
//! The mail command, which is no event, lives in `email`.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::ids::{AccountId, UploadId};

/// The data of one message type.
pub trait EventData: Serialize + DeserializeOwned {
    /// The CloudEvents `type`, which is also the routing key.
    const TYPE: &'static str;
}

macro_rules! event {
    ($name:ident, $ty:literal) => {
        impl EventData for $name {
            const TYPE: &'static str = $ty;
        }
    };
}
pub(crate) use event;

/// What changed in an account; never the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// The pictures of the profile.
    Icon,
    /// The name that is shown.
    Username,
    /// The few words of the profile.
    Summary,
    /// The language.
    Locale,
    /// The address, or whether it was verified.
    Email,
    /// The password.
    Password,
    /// TOTP or its recovery codes.
    SecondFactor,
    /// The public keys.
    PublicKeys,
    /// Suspended or restored, waiting to be deleted or not any more.
    State,
}

/// An account came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountCreated {
    /// Its internal id.
    pub account: AccountId,
    /// Version of the account's row, 1.
    pub version: i64,
}
event!(AccountCreated, "com.gravitalia.account.created.v1");

/// An account's row changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUpdated {
    /// Its internal id.
    pub account: AccountId,
    /// Version of the row after the change; handlers compare versions, since order is promised nowhere.
    pub version: i64,
    /// What changed.
    pub changed: Vec<Changed>,
}
event!(AccountUpdated, "com.gravitalia.account.updated.v1");

/// An account's rows are gone, after its time of grace: whoever holds data of it removes it, and answers with a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDeleted {
    /// Its internal id.
    pub account: AccountId,
    /// One more than the last version of the row.
    pub version: i64,
}
event!(AccountDeleted, "com.gravitalia.account.deleted.v1");

/// A service holds nothing of a deleted account any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountErased {
    /// The account's internal id.
    pub account: AccountId,
    /// Who has removed what it held: the service's name.
    pub holder: String,
}
event!(AccountErased, "com.gravitalia.account.erased.v1");

/// Sessions of an account ended, by a log-out, an operator, a new password, or with the account itself. Their access tokens are not to be
/// believed any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsEnded {
    /// The account's internal id.
    pub account: AccountId,
    /// The `sid` of each, at most [`SessionsEnded::MOST`].
    pub sessions: Vec<Uuid>,
}
event!(SessionsEnded, "com.gravitalia.session.ended.v1");

impl SessionsEnded {
    /// How many one event tells of; more are told by several.
    pub const MOST: usize = 500;
}

/// A picture was stored and waits to be optimised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUploaded {
    /// The upload; its owner is looked up by it, never taken from a message.
    pub upload: UploadId,
    /// Where the original lies in the bucket.
    pub key: String,
    /// Size of the original.
    pub size_bytes: u64,
    /// SHA-256 of the original, 64 hexadecimal digits; a store's own notification knows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}
event!(ImageUploaded, "com.gravitalia.image.uploaded.v1");

/// One picture made from an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Where it lies in the bucket; named by its content, so it never changes.
    pub key: String,
    /// Media type.
    pub format: String,
    /// Width, in pixels.
    pub width: u32,
    /// Height, in pixels.
    pub height: u32,
    /// Size in bytes.
    pub bytes: u64,
}

/// The variants of an upload are in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOptimized {
    /// The upload.
    pub upload: UploadId,
    /// The variants, largest first; of each size one for each format.
    pub variants: Vec<Variant>,
    /// A placeholder (ThumbHash), hexadecimal, to be shown while a variant is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbhash: Option<String>,
}
event!(ImageOptimized, "com.gravitalia.image.optimized.v1");

/// An upload can never become a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRejected {
    /// The upload.
    pub upload: UploadId,
    /// A stable snake-case code.
    pub code: String,
    /// Why, in words for the person who uploaded it.
    pub reason: String,
}
event!(ImageRejected, "com.gravitalia.image.rejected.v1");
