//! A profile as an ActivityStreams `Person`, in the shape that upstream's clients read.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::lookup::{Account, Icon};

/// The document of `account`. `id` is the name, as upstream gives it, or the profile's address where ActivityStreams is asked for.
pub fn person(base: &str, account: &Account, icons: &[Icon], activity: bool) -> Value {
    let url = format!("{base}/users/{}", account.vanity);
    let icons: Vec<_> = icons
        .iter()
        .map(|icon| {
            json!({
                "type": "Image",
                "mediaType": icon.media_type,
                "url": format!("{base}/{}", icon.object_key),
                "width": icon.width,
                "height": icon.width,
            })
        })
        .collect();
    json!({
        "@context": ["https://www.w3.org/ns/activitystreams", "https://w3id.org/security/v1"],
        "type": "Person",
        "id": if activity { &url } else { &account.vanity },
        "preferredUsername": account.username,
        "name": account.username,
        "url": url,
        "summary": account.summary,
        "icon": icons,
        "flags": account.flags,
        "published": account.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        "publicKeys": [],
    })
}
