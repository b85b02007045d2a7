//! One dead letter as its operator sees it: the event in it, sealed addresses opened only with the mail key, names only then too.

use base64::{Engine, engine::general_purpose::STANDARD};
use lapin::{
    BasicProperties,
    types::{FieldTable, ShortString},
};
use orrery_bus::field_table;
use orrery_config::partner::is_reserved;
use orrery_schemas::{
    email::SendEmail,
    events::{
        AccountCreated, AccountDeleted, AccountErased, AccountUpdated, EventData, ImageOptimized,
        ImageRejected, ImageUploaded,
    },
};
use orrery_seal::{Sealer, is_sealed};
use orrery_store::dead_letters::read::{StoredLetter, Summary};
use serde::Serialize;
use serde_json::{Value, json};

/// What is said of a message that others wrote.
const FOREIGN: &str = "headers and content, which others wrote and may name people: --reveal shows them";
/// What stands in place of a name that is not shown.
const HIDDEN: &str = "(hidden, --reveal shows it)";

/// A letter to be shown or exported.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    /// The letter.
    #[serde(flatten)]
    pub letter: Fields<'a>,
    /// The event in the JSON format of CloudEvents; `None` when the message is none.
    pub event: Option<Value>,
    /// Why the message is no event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_an_event: Option<String>,
    /// What is left out, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<&'static str>,
    /// Why something sealed could not be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub still_sealed: Option<String>,
    /// The message's body as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// The columns of a letter.
#[derive(Debug, Serialize)]
pub struct Fields<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    source: Option<&'a str>,
    event_id: Option<&'a str>,
    causes: &'a [String],
    archived_at: chrono::DateTime<chrono::Utc>,
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<&'a Value>,
    size_bytes: usize,
}

impl<'a> View<'a> {
    /// For an operator's eyes: without the body, and without names unless `key` opens what is sealed. Letters by the queues of `bridges` hold
    /// what others wrote.
    pub fn shown(letter: &'a StoredLetter, key: Option<&Sealer>, bridges: &[&str]) -> Self {
        if key.is_none() && is_foreign(letter, bridges) {
            return Self::of_others(letter);
        }
        let mut view = Self::decoded(letter, key);
        if (key.is_none() || view.still_sealed.is_some())
            && let Some(event) = &mut view.event
        {
            mask(event);
        }
        view
    }

    /// For another place: with everything that the message has. Without `key` what is sealed stays so, and what others wrote is left out.
    pub fn exported(letter: &'a StoredLetter, key: Option<&Sealer>, bridges: &[&str]) -> Self {
        if key.is_none() && is_foreign(letter, bridges) {
            return Self::of_others(letter);
        }
        Self { body_base64: Some(STANDARD.encode(&letter.body)), ..Self::decoded(letter, key) }
    }

    fn decoded(letter: &'a StoredLetter, key: Option<&Sealer>) -> Self {
        let decoded = cloudevents_amqp::decode(&properties(letter), &letter.body)
            .map_err(|error| error.to_string())
            .and_then(|event| serde_json::to_value(&event).map_err(|error| error.to_string()));
        let (mut event, not_an_event) = match decoded {
            Ok(event) => (Some(event), None),
            Err(error) => (None, Some(error)),
        };
        let still_sealed = key.zip(event.as_mut()).and_then(|(key, event)| open(event, key));
        let letter = Fields::of(letter);
        Self { letter, event, not_an_event, hidden: None, still_sealed, body_base64: None }
    }

    fn of_others(letter: &'a StoredLetter) -> Self {
        let letter = Fields { headers: None, source: None, event_id: None, ..Fields::of(letter) };
        let hidden = Some(FOREIGN);
        Self { letter, event: None, not_an_event: None, hidden, still_sealed: None, body_base64: None }
    }
}

impl<'a> Fields<'a> {
    fn of(letter: &'a StoredLetter) -> Self {
        Self {
            summary: &letter.summary,
            source: letter.source.as_deref(),
            event_id: letter.event_id.as_deref(),
            causes: &letter.causes,
            archived_at: letter.archived_at,
            content_type: letter.content_type.as_deref(),
            headers: Some(&letter.headers),
            size_bytes: letter.body.len(),
        }
    }
}

/// Whether others wrote it: it came by a bridge, or is no event of ours.
fn is_foreign(letter: &StoredLetter, bridges: &[&str]) -> bool {
    let Summary { ty, handler, .. } = &letter.summary;
    !ty.as_deref().is_some_and(is_reserved) || bridges.contains(&handler.as_str())
}

/// The message's properties as far as they were kept.
fn properties(letter: &StoredLetter) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in letter.headers.as_object().into_iter().flatten() {
        if let (Ok(name), Some(value)) = (ShortString::try_new(name.as_str()), field_table::from_json(value))
        {
            headers.insert(name, value);
        }
    }
    let properties = BasicProperties::default().with_headers(headers);
    match letter.content_type.as_deref().map(ShortString::try_new) {
        Some(Ok(content_type)) => properties.with_content_type(content_type),
        _ => properties,
    }
}

/// Opens the sealed texts of the data for the account that it names; returns why one could not be.
fn open(event: &mut Value, key: &Sealer) -> Option<String> {
    let data = event.get_mut("data").and_then(Value::as_object_mut)?;
    let owner = data.get("account").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut fault = None;
    for text in data.values_mut() {
        let Some(sealed) = text.as_str().filter(|text| is_sealed(text)) else { continue };
        match key.open(sealed, &owner) {
            Ok(plain) => *text = json!(String::from_utf8_lossy(&plain)),
            Err(error) => fault = Some(error.to_string()),
        }
    }
    fault
}

/// The fields of each type of ours that name nobody. A field that stands here for no type is not shown: a new one is hidden until somebody thought of it.
const SHOWN: &[(&str, &[&str])] = &[
    (SendEmail::TYPE, &["account", "locale", "template"]),
    (AccountCreated::TYPE, &["account", "version"]),
    (AccountUpdated::TYPE, &["account", "version", "changed"]),
    (AccountDeleted::TYPE, &["account", "version"]),
    (AccountErased::TYPE, &["account", "holder"]),
    (ImageUploaded::TYPE, &["upload", "key", "size_bytes", "digest"]),
    (ImageOptimized::TYPE, &["upload", "variants", "thumbhash"]),
    (ImageRejected::TYPE, &["upload", "code", "reason"]),
];

/// Masks the data but for the fields that name nobody and texts that are sealed.
fn mask(event: &mut Value) {
    let ty = event.get("type").and_then(Value::as_str).unwrap_or_default();
    let shown = SHOWN.iter().find(|(known, _)| *known == ty).map_or(&[][..], |(_, fields)| fields);
    if let Some(data) = event.get_mut("data_base64") {
        *data = json!(HIDDEN);
    }
    let Some(data) = event.get_mut("data") else { return };
    match data.as_object_mut() {
        Some(data) => {
            for (field, value) in data {
                let is_sealed = value.as_str().is_some_and(is_sealed);
                if !is_sealed && !shown.contains(&field.as_str()) {
                    *value = json!(HIDDEN);
                }
            }
        }
        None => *data = json!(HIDDEN),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use orrery_config::keys::KeyRing;
    use orrery_schemas::email::SEAL_PURPOSE;
    use uuid::Uuid;

    use super::*;

    fn sealer(key: u8) -> Sealer {
        Sealer::new(&KeyRing::from_bytes([[key; 32]]), SEAL_PURPOSE).unwrap()
    }

    fn letter(headers: Value, body: &Value) -> StoredLetter {
        StoredLetter {
            summary: Summary {
                id: Uuid::nil(),
                handler: "maily.email".to_owned(),
                ty: Some(SendEmail::TYPE.to_owned()),
                reason: "550".to_owned(),
                attempts: 1,
                trace_id: None,
                failed_at: DateTime::UNIX_EPOCH,
                age_seconds: 1.0,
            },
            source: None,
            event_id: None,
            causes: Vec::new(),
            archived_at: DateTime::UNIX_EPOCH,
            content_type: Some("application/json".to_owned()),
            headers,
            body: body.to_string().into_bytes(),
        }
    }

    fn mail() -> StoredLetter {
        let headers = json!({
            "cloudEvents_specversion": "1.0", "cloudEvents_id": "1", "cloudEvents_source": "com.gravitalia.autha",
            "cloudEvents_type": SendEmail::TYPE, "attempt": 1,
        });
        let to = sealer(1).seal(b"jane@people.example", "account-1").unwrap();
        letter(headers, &json!({"account": "account-1", "to": to, "username": "Jane"}))
    }

    #[test]
    fn names_and_addresses_are_shown_only_with_the_key() {
        let letter = mail();
        let shown = serde_json::to_string(&View::shown(&letter, None, &[])).unwrap();
        assert!(!shown.contains("Jane") && !shown.contains("jane@") && shown.contains("v1."), "{shown}");
        let opened = serde_json::to_string(&View::shown(&letter, Some(&sealer(1)), &[])).unwrap();
        assert!(opened.contains("Jane") && opened.contains("jane@people.example"), "{opened}");
        let exported = View::exported(&letter, None, &[]);
        assert_eq!(STANDARD.decode(exported.body_base64.unwrap()).unwrap(), letter.body);
        assert!(!exported.event.unwrap().to_string().contains("jane@"));
    }

    #[test]
    fn a_wrong_key_leaves_it_sealed_and_says_so() {
        let letter = mail();
        let view = View::shown(&letter, Some(&sealer(2)), &[]);
        assert!(view.still_sealed.is_some_and(|why| why.contains("key")));
        let data = &view.event.unwrap()["data"];
        assert!(data["to"].as_str().unwrap().starts_with("v1.") && data["username"] == HIDDEN);
    }

    #[test]
    fn an_address_that_was_never_sealed_is_hidden_too() {
        let mut letter = mail();
        letter.body = br#"{"to": "jane@people.example"}"#.to_vec();
        assert!(!serde_json::to_string(&View::shown(&letter, None, &[])).unwrap().contains("jane@"));
    }

    #[test]
    fn a_field_that_nobody_thought_of_is_masked() {
        let mut letter = mail();
        letter.body = br#"{"account": "1", "template": "login", "device": "Jane's phone", "v": {"to": "jane@people.example"}}"#.to_vec();
        let view = View::shown(&letter, None, &[]);
        let data = &view.event.unwrap()["data"];
        assert_eq!(*data, json!({"account": "1", "template": "login", "device": HIDDEN, "v": HIDDEN}));
        letter.headers["cloudEvents_type"] = json!("com.gravitalia.new.v1");
        letter.summary.ty = Some("com.gravitalia.new.v1".to_owned());
        let data = View::shown(&letter, None, &[]).event.unwrap()["data"].take();
        assert!(data.as_object().unwrap().values().all(|value| value == HIDDEN), "{data}");
    }

    #[test]
    fn a_message_that_is_no_event_says_why() {
        let letter = letter(json!({}), &json!({"to": "jane@people.example"}));
        let view = View::shown(&letter, None, &[]);
        assert!(view.event.is_none() && view.not_an_event.is_some());
        assert!(!serde_json::to_string(&view).unwrap().contains("jane@"));
    }

    #[test]
    fn what_others_wrote_is_shown_and_exported_only_with_the_key() {
        let mut of_bridge = mail();
        of_bridge.summary.handler = "email".to_owned();
        let mut of_partner = mail();
        of_partner.summary.ty = Some("com.acme.order".to_owned());
        let mut of_nobody = mail();
        of_nobody.summary.ty = None;
        for mut letter in [of_bridge, of_partner, of_nobody] {
            letter.headers["cloudEvents_to"] = json!("jane@people.example");
            letter.body = br#"{"anything": "jane@people.example"}"#.to_vec();
            for view in [View::shown(&letter, None, &["email"]), View::exported(&letter, None, &["email"])] {
                let text = serde_json::to_string(&view).unwrap();
                assert!(
                    !text.contains("jane@") && text.contains("--reveal") && view.body_base64.is_none(),
                    "{text}"
                );
            }
            let revealed = View::exported(&letter, Some(&sealer(1)), &["email"]);
            assert!(revealed.body_base64.is_some() && revealed.letter.headers.is_some());
        }
    }
}
