//! The events that travel on the topic exchange: their types and data. A published type never changes; a new version is added.
//! The mail command, which is no event, lives in `email`.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

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

/// One square picture made from an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Where it lies in the bucket; named by its content, so it never changes.
    pub key: String,
    /// Media type.
    pub format: String,
    /// Width and height, in pixels.
    pub width: u32,
    /// Size in bytes.
    pub bytes: u64,
}

/// The variants of an upload are in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOptimized {
    /// The upload.
    pub upload: UploadId,
    /// The variants, largest first.
    pub variants: Vec<Variant>,
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
