//! A profile as an ActivityStreams `Person`, in the shape that upstream's clients read.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::{
    links::Links,
    lookup::{Account, Icon, ShownKey},
};

/// What a profile shows.
pub struct Profile {
    /// The account.
    pub account: Account,
    /// Its pictures, largest first.
    pub icons: Vec<Icon>,
    /// Its public keys.
    pub keys: Vec<ShownKey>,
}

/// Which of both forms is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Upstream's: `id` is the name.
    Plain,
    /// ActivityStreams': `id` is the profile's address.
    Activity,
}

/// The document of a profile.
pub fn person(links: &Links, profile: &Profile, form: Form) -> Value {
    let Profile { account, icons, keys } = profile;
    let url = links.profile(&account.vanity);
    let icons: Vec<_> = icons
        .iter()
        .map(|icon| {
            json!({
                "type": "Image",
                "mediaType": icon.format.media_type(),
                "url": links.picture(icon),
                "width": icon.width,
                "height": icon.width,
            })
        })
        .collect();
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            let created = key.created_at.to_rfc3339_opts(SecondsFormat::Secs, true);
            json!({
                "id": match form {
                    Form::Plain => json!(key.id),
                    Form::Activity => json!(format!("{url}#key-{}", key.id)),
                },
                "owner": match form { Form::Plain => &account.vanity, Form::Activity => &url },
                "publicKeyPem": key.pem,
                "public_key_pem": key.pem,
                "createdAt": created,
                "created_at": created,
            })
        })
        .collect();
    json!({
        "@context": ["https://www.w3.org/ns/activitystreams", "https://w3id.org/security/v1"],
        "type": "Person",
        "id": match form { Form::Plain => &account.vanity, Form::Activity => &url },
        "preferredUsername": account.username,
        "name": account.username,
        "url": url,
        "summary": account.summary,
        "icon": icons,
        "flags": account.flags,
        "published": account.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        "publicKeys": keys,
    })
}
