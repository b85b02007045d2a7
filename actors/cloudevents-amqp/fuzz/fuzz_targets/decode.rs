//! Whatever a peer sends: no panic, only valid events, and errors that are short and of one line.
#![no_main]

use cloudevents_amqp::{decode, validate};
use cloudevents_amqp_fuzz::message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (properties, body) = message(input);
    match decode(&properties, body) {
        Ok(event) => assert_eq!(validate(&event), Ok(())),
        Err(error) => {
            let text = error.to_string();
            assert!(text.chars().count() < 1000, "an error of {} bytes", text.len());
            assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
        }
    }
});
