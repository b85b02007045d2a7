//! The legacy queue: what older publishers send becomes today's command. How it is moved lives in `orrery_bus::bridge`.
//!
//! They send a CloudEvent `com.gravitalia.email` whose data is `{to, template, username, locale}`, with the address in the clear and no
//! account. The address is sealed on the way, so that it lies open in no queue of ours and in no dead letter; everything else stays as it is.

use std::{borrow::Cow, io::Read as _, sync::Arc};

use cloudevents::{AttributesReader, AttributesWriter, Data, Event};
use cloudevents_amqp::DecodeError;
use flate2::read::MultiGzDecoder;
use orrery_bus::{
    Dependencies, Failure,
    bridge::{BridgeSpec, ForeignQueue, Translated},
};
use orrery_schemas::{
    email::{QUEUE, SendEmail, Template},
    events::EventData,
    ids::AccountId,
};
use orrery_seal::Sealer;
use orrery_supervise::Supervisor;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

/// The queue that older publishers write to.
pub const LEGACY_QUEUE: &str = "email";
/// Whom a legacy mail concerns: it names no account, so its address is sealed for none.
const NO_ACCOUNT: AccountId = AccountId(Uuid::nil());

/// The data of a legacy message.
#[derive(Deserialize)]
struct LegacyEmail {
    to: String,
    template: String,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    locale: Option<String>,
}

/// Where the bridge reads and writes; `orrery migrate` declares by it.
pub fn bridge() -> BridgeSpec {
    BridgeSpec {
        name: "maily.legacy",
        queue: LEGACY_QUEUE,
        queue_kind: ForeignQueue::Legacy,
        exchange: "",
        routing_key: QUEUE,
        handler: QUEUE,
    }
}

/// Starts the bridge under `supervisor`.
pub fn start(sealer: Sealer, dependencies: &Dependencies, supervisor: &Supervisor) {
    dependencies.bridge(
        supervisor,
        bridge(),
        Arc::new(move |properties, body| {
            let body = match plain(properties.content_encoding().as_ref().map(|name| name.as_str()), body) {
                Ok(body) => body,
                Err(failure) => return Translated { failure: Some(failure), ..Translated::default() },
            };
            translate(&sealer, cloudevents_amqp::decode(properties, &body))
        }),
    );
}

/// The extensions that are kept.
const READ: [&str; 3] = ["expirytime", "traceparent", "tracestate"];

/// What a body may take when it is unpacked: a mail command is small, and a few kilobytes can stand for gigabytes.
const UNPACKED_LIMIT: u64 = 1 << 20;

/// The body without its content encoding.
fn plain<'a>(encoding: Option<&str>, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Failure> {
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    match encoding.as_str() {
        // Some publishers name the character set here.
        "" | "identity" | "utf-8" | "utf8" => Ok(Cow::Borrowed(body)),
        "gzip" | "x-gzip" => {
            let mut plain = Vec::new();
            let mut limited = MultiGzDecoder::new(body).take(UNPACKED_LIMIT + 1);
            limited.read_to_end(&mut plain).map_err(|error| Failure {
                reason: "the body is marked as gzip and cannot be unpacked".to_owned(),
                causes: vec![error.to_string()],
            })?;
            if u64::try_from(plain.len()).is_ok_and(|length| length > UNPACKED_LIMIT) {
                return Err(Failure::new(format!(
                    "the body is larger than {UNPACKED_LIMIT} bytes when unpacked"
                )));
            }
            Ok(Cow::Owned(plain))
        }
        other => {
            // It comes from outside, and is kept.
            let name: String = other.chars().filter(char::is_ascii_graphic).take(30).collect();
            Err(Failure::new(format!("the body has the content encoding '{name}': gzip is read, or none")))
        }
    }
}

fn translate(sealer: &Sealer, event: Result<Event, DecodeError>) -> Translated {
    let turned = event.map_err(|error| Failure::of(&error)).and_then(|event| command(sealer, event));
    match turned {
        Ok(event) => Translated { events: vec![event], ..Translated::default() },
        Err(failure) => Translated { failure: Some(failure), ..Translated::default() },
    }
}

/// The event with its data as maily reads it; one that names an account is today's already, and maily's own to judge.
fn command(sealer: &Sealer, mut event: Event) -> Result<Event, Failure> {
    if event.ty() != SendEmail::TYPE {
        return Err(Failure::new(format!("the event's type is not {}", SendEmail::TYPE)));
    }
    let data = json(&event).ok_or_else(|| Failure::new("the event carries no JSON"))?;
    // What a publisher adds may name somebody, and nobody here reads it.
    event.set_subject(None::<String>);
    let extra: Vec<String> = event.iter_extensions().map(|(name, _)| name.to_owned()).collect();
    extra.iter().filter(|name| !READ.contains(&name.as_str())).for_each(|name| {
        event.remove_extension(name);
    });
    if data.get("account").is_some() {
        if !data.get("to").and_then(Value::as_str).is_some_and(orrery_seal::is_sealed) {
            return Err(Failure::new("the data names an account, and its address 'to' is not sealed"));
        }
        return Ok(event);
    }
    // serde's messages can quote the input, which holds an address.
    let legacy = LegacyEmail::deserialize(data).map_err(|_| {
        Failure::new("the data is no legacy mail: 'to' and 'template' are texts that must be there")
    })?;
    let template: Template = legacy.template.parse().map_err(|error| Failure::of(&error))?;
    let to =
        sealer.seal(legacy.to.as_bytes(), &NO_ACCOUNT.to_string()).map_err(|error| Failure::of(&error))?;
    let command = SendEmail {
        account: NO_ACCOUNT,
        // Maily's default where it has no templates.
        locale: legacy.locale.unwrap_or_default(),
        template,
        to,
        username: legacy.username.unwrap_or_default(),
        details: None,
    };
    let data = serde_json::to_value(command).map_err(|error| Failure::of(&error))?;
    event.set_data("application/json", data);
    Ok(event)
}

fn json(event: &Event) -> Option<Value> {
    match event.data()? {
        Data::Json(value) => Some(value.clone()),
        Data::Binary(bytes) => serde_json::from_slice(bytes).ok(),
        Data::String(text) => serde_json::from_str(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use cloudevents::{EventBuilder, EventBuilderV10};
    use orrery_config::keys::KeyRing;
    use orrery_schemas::email::SEAL_PURPOSE;
    use serde_json::json;

    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&KeyRing::from_bytes([[7; 32]]), SEAL_PURPOSE).unwrap()
    }

    fn event(ty: &str, data: Value) -> Event {
        EventBuilderV10::new()
            .id("Vb3kq0Lx9TzA")
            .source("com.gravitalia.autha")
            .ty(ty)
            .time("2025-11-02T10:20:30.123456789+00:00")
            .data("application/json", data)
            .build()
            .unwrap()
    }

    fn failure(ty: &str, data: Value) -> String {
        let turned = translate(&sealer(), Ok(event(ty, data)));
        assert!(turned.events.is_empty());
        turned.failure.unwrap().reason
    }

    #[test]
    fn a_legacy_mail_keeps_its_id_and_loses_its_open_address() {
        let data =
            json!({"locale": "fr", "to": "ada@example.com", "template": "data_update", "username": "ada"});
        let before = event(SendEmail::TYPE, data);
        let mut told = before.clone();
        told.set_subject(Some("ada@example.com"));
        told.set_extension("sender", "ada@example.com");
        told.set_extension("expirytime", "2025-11-09T10:20:30Z");
        let turned = translate(&sealer(), Ok(told));
        assert!(turned.failure.is_none());
        let after = &turned.events[0];
        assert!(after.subject().is_none() && after.extension("sender").is_none());
        assert!(after.extension("expirytime").is_some());
        assert_eq!((after.id(), after.source(), after.time()), (before.id(), before.source(), before.time()));
        let data = json(after).unwrap();
        assert!(!data.to_string().contains("ada@example.com"));
        let command: SendEmail = serde_json::from_value(data).unwrap();
        assert_eq!((command.template, command.locale.as_str()), (Template::DataUpdate, "fr"));
        let opened = sealer().open(&command.to, &command.account.to_string()).unwrap();
        assert_eq!(opened.as_slice(), b"ada@example.com");
    }

    #[test]
    fn a_legacy_mail_may_lack_name_and_language() {
        let data = json!({"locale": null, "to": "ada@example.com", "template": "welcome"});
        let turned = translate(&sealer(), Ok(event(SendEmail::TYPE, data)));
        assert!(turned.failure.is_none());
        assert_eq!(turned.events.len(), 1);
    }

    #[test]
    fn a_packed_body_is_unpacked_and_another_encoding_is_named() {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(b"{}").unwrap();
        let packed = gzip.finish().unwrap();
        assert_eq!(&*plain(Some("GZIP"), &packed).unwrap(), b"{}");
        for none in [None, Some("identity"), Some("utf-8")] {
            assert_eq!(&*plain(none, b"{}").unwrap(), b"{}");
        }
        assert!(plain(Some("gzip"), b"{}").unwrap_err().reason.contains("marked as gzip"));
        assert!(plain(Some("br"), b"{}").unwrap_err().reason.contains("'br'"));
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![b' '; 64 << 20]).unwrap();
        assert!(plain(Some("gzip"), &bomb.finish().unwrap()).unwrap_err().reason.contains("when unpacked"));
    }

    #[test]
    fn todays_command_is_moved_as_it_is() {
        let data = json!({"account": Uuid::from_u128(1), "locale": "en", "template": "welcome",
                          "to": "v1.0123abcd.c2VhbGVk", "username": "ada"});
        let before = event(SendEmail::TYPE, data);
        assert_eq!(translate(&sealer(), Ok(before.clone())).events, [before]);
    }

    #[test]
    fn what_is_no_mail_is_refused_without_repeating_it() {
        assert!(failure("com.example.other", json!({})).contains("type is not com.gravitalia.email"));
        for data in [
            json!({"to": "ada@example.com"}),
            json!({"template": "welcome"}),
            json!({"to": ["ada@example.com"], "template": "welcome"}),
            json!({"to": "ada@example.com", "template": "ada@example.com"}),
            json!({"account": Uuid::from_u128(1), "to": "ada@example.com", "template": "welcome"}),
            json!("ada@example.com"),
            json!(null),
        ] {
            let reason = failure(SendEmail::TYPE, data);
            assert!(!reason.contains("example.com"), "{reason}");
        }
        let broken = cloudevents_amqp::DecodeError::NotAnObject;
        assert!(translate(&sealer(), Err(broken)).failure.is_some());
    }
}
