//! Properties over arbitrary events and messages: what is written is read back, and nothing a peer sends makes the reader panic.
#![expect(clippy::unwrap_used, reason = "tests")]

mod arbitrary;

use arbitrary::{binary_event, hostile_body, hostile_headers, structured_event};
use cloudevents::{AttributesReader, Data, Event};
use cloudevents_amqp::{decode, encode_binary, encode_structured, validate};
use lapin::{BasicProperties, types::FieldTable};
use proptest::prelude::*;

/// The event as binary mode gives it back when all it can tell is bytes and a content type.
fn as_bytes(event: &Event) -> (Option<Vec<u8>>, Option<String>) {
    let bytes = event.data().cloned().map(|data| Vec::<u8>::try_from(data).unwrap());
    (bytes.filter(|bytes| !bytes.is_empty()), event.datacontenttype().map(str::to_owned))
}

/// The same headers under the spelling with `:`.
fn with_colons(properties: BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flatten() {
        headers.insert(name.as_str().replacen("cloudEvents_", "cloudEvents:", 1).into(), value.clone());
    }
    properties.with_headers(headers)
}

proptest! {
    #[test]
    fn binary_mode_gives_the_event_back(event in binary_event()) {
        let message = encode_binary(&event).unwrap();
        prop_assert_eq!(decode(&message.properties, &message.body).unwrap(), event);
    }

    #[test]
    fn binary_mode_with_colons_gives_the_event_back(event in binary_event()) {
        let message = encode_binary(&event).unwrap();
        prop_assert_eq!(decode(&with_colons(message.properties), &message.body).unwrap(), event);
    }

    #[test]
    fn structured_mode_gives_the_event_back(event in structured_event()) {
        let message = encode_structured(&event).unwrap();
        prop_assert_eq!(decode(&message.properties, &message.body).unwrap(), event);
    }

    #[test]
    fn text_says_the_same_in_both_modes(mut event in structured_event(), text in any::<String>()) {
        event.set_data_unchecked(Data::String(text));
        let Ok(binary) = encode_binary(&event) else {
            prop_assert!(encode_structured(&event).is_err());
            return Ok(());
        };
        let structured = encode_structured(&event).unwrap();
        let binary = decode(&binary.properties, &binary.body).unwrap();
        let structured = decode(&structured.properties, &structured.body).unwrap();
        prop_assert_eq!(as_bytes(&binary), as_bytes(&structured));
    }

    #[test]
    fn arbitrary_messages_never_panic_and_give_valid_events_only(
        headers in hostile_headers(),
        content_type in prop_oneof![
            Just("application/cloudevents+json".to_owned()),
            Just("application/json".to_owned()),
            "application/(cloudevents)?(-batch)?(\\+json)?;?.{0,10}",
            ".{0,30}",
        ],
        body in hostile_body(),
    ) {
        let properties = BasicProperties::default().with_headers(headers).with_content_type(content_type.into());
        if let Ok(event) = decode(&properties, &body) {
            prop_assert!(validate(&event).is_ok());
        }
    }

    #[test]
    fn arbitrary_values_over_a_valid_event_never_panic(event in binary_event(), hostile in hostile_headers(), body in hostile_body()) {
        let message = encode_binary(&event).unwrap();
        let mut headers = message.properties.headers().clone().unwrap_or_default();
        for (name, value) in &hostile {
            headers.insert(name.clone(), value.clone());
        }
        if let Ok(event) = decode(&message.properties.with_headers(headers), &body) {
            prop_assert!(validate(&event).is_ok());
        }
    }
}
