//! Phoenix' channel protocol: what a frame says, in the two ways in which clients write it. What is done about it lives in `socket`.

mod v1;
mod v2;

use serde_json::{Value, json};

/// The topic of heartbeats.
pub const PHOENIX: &str = "phoenix";
/// The one topic of ours.
pub const LOBBY: &str = "";

/// How frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Serializer {
    /// Objects with `topic`, `event`, `payload`, `ref`.
    V1,
    /// Arrays of `join_ref`, `ref`, `topic`, `event`, `payload`.
    V2,
}

/// A frame of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// By which its answer names it; whatever it was, it is given back as it came.
    pub reference: Value,
    /// By which its channel was joined; version 2 only.
    pub join_reference: Value,
    /// Where to.
    pub topic: String,
    /// What it is.
    pub event: String,
    /// What it says.
    pub payload: Value,
}

/// A text is no frame of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame cannot be read")]
pub struct Unreadable;

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It was done.
    Ok(Value),
    /// It was not, for a reason that clients may compare.
    Error(&'static str),
}

impl Reply {
    /// Done, with nothing to say.
    pub fn ok() -> Self {
        Self::Ok(json!({}))
    }

    fn payload(&self) -> Value {
        match self {
            Self::Ok(response) => json!({"status": "ok", "response": response}),
            Self::Error(reason) => json!({"status": "error", "response": {"reason": reason}}),
        }
    }
}

impl Serializer {
    /// The one that a client asks for by `vsn`; without it, the first.
    pub fn of(version: Option<&str>) -> Option<Self> {
        match version {
            None => Some(Self::V1),
            Some(version) if version.starts_with("1.") => Some(Self::V1),
            Some(version) if version.starts_with("2.") => Some(Self::V2),
            Some(_) => None,
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(self, text: &str) -> Result<Incoming, Unreadable> {
        match self {
            Self::V1 => v1::read(text),
            Self::V2 => v2::read(text),
        }
    }

    /// The answer to a frame.
    pub fn reply(self, to: &Incoming, reply: &Reply) -> String {
        let payload = reply.payload();
        match self {
            Self::V1 => v1::write(&to.topic, "phx_reply", &payload, &to.reference),
            Self::V2 => v2::write(&to.join_reference, &to.reference, &to.topic, "phx_reply", &payload),
        }
    }

    /// What nobody asked for.
    pub fn push(self, event: &str, payload: &Value) -> String {
        match self {
            Self::V1 => v1::write(LOBBY, event, payload, &Value::Null),
            Self::V2 => v2::write(&Value::Null, &Value::Null, LOBBY, event, payload),
        }
    }

    /// That the channel of a frame is closed, as it asked for.
    pub fn closed(self, to: &Incoming) -> String {
        let nothing = json!({});
        match self {
            Self::V1 => v1::write(&to.topic, "phx_close", &nothing, &to.reference),
            Self::V2 => v2::write(&to.join_reference, &to.join_reference, &to.topic, "phx_close", &nothing),
        }
    }
}

/// A reference is a text, a number or nothing; more would be given back unread.
fn reference(value: Value) -> Result<Value, Unreadable> {
    match value {
        Value::String(text) if text.len() <= 64 => Ok(Value::String(text)),
        Value::Number(_) | Value::Null => Ok(value),
        _ => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_frames_are_read() {
        let read = |text| Serializer::V1.read(text).unwrap();
        let join = read(r#"{"topic":"","event":"phx_join","payload":"","ref":"0"}"#);
        assert_eq!((join.topic.as_str(), join.event.as_str()), (LOBBY, "phx_join"));
        assert_eq!((join.payload, join.reference), (json!(""), json!("0")));
        let beat = read(r#"{"topic":"phoenix","event":"heartbeat","payload":"","ref":"0"}"#);
        assert_eq!(beat.topic, PHOENIX);
        let offer =
            read(r#"{"topic":"","event":"offer","payload":{"type":"offer","sdp":"v=0..."},"ref":"1"}"#);
        assert_eq!(offer.payload["sdp"], "v=0...");
    }

    #[test]
    fn the_contracts_frames_are_written() {
        let join = Serializer::V1.read(r#"{"topic":"","event":"phx_join","payload":"","ref":"0"}"#).unwrap();
        assert_eq!(
            Serializer::V1.reply(&join, &Reply::ok()),
            r#"{"topic":"","event":"phx_reply","ref":"0","payload":{"response":{},"status":"ok"}}"#
        );
        assert_eq!(
            Serializer::V1.reply(&join, &Reply::Error("unmatched topic")),
            r#"{"topic":"","event":"phx_reply","ref":"0","payload":{"response":{"reason":"unmatched topic"},"status":"error"}}"#
        );
        assert_eq!(
            Serializer::V1.push("pending_messages", &json!({"messages": []})),
            r#"{"topic":"","event":"pending_messages","ref":null,"payload":{"messages":[]}}"#
        );
    }

    #[test]
    fn the_second_version_writes_arrays() {
        let join = Serializer::V2.read(r#"["3","4","","phx_join",{}]"#).unwrap();
        assert_eq!(
            Serializer::V2.reply(&join, &Reply::ok()),
            r#"["3","4","","phx_reply",{"response":{},"status":"ok"}]"#
        );
        assert_eq!(Serializer::V2.closed(&join), r#"["3","3","","phx_close",{}]"#);
        assert_eq!(Serializer::V2.push("x", &json!({})), r#"[null,null,"","x",{}]"#);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let deep = "[".repeat(10_000);
        for text in [
            "",
            "x",
            "{}",
            "[]",
            "null",
            r#"{"topic":1,"event":"x","payload":{},"ref":"0"}"#,
            r#"{"topic":"","event":"x","payload":{},"ref":{"a":1}}"#,
            r#"{"topic":"","topic":"","event":"x","payload":{},"ref":"0"}"#,
            r#"["1","2","",{},{}]"#,
            r#"["1","2","","x"]"#,
            r#"["1","2","","x",{},1]"#,
            &deep,
            &format!(r#"{{"topic":"","event":"x","payload":{},"ref":"0"}}"#, deep),
        ] {
            assert!(Serializer::V1.read(text).is_err(), "{}", text.len());
            assert!(Serializer::V2.read(text).is_err(), "{}", text.len());
        }
    }

    #[test]
    fn versions_that_nobody_speaks_are_refused() {
        assert_eq!(Serializer::of(None), Some(Serializer::V1));
        assert_eq!(Serializer::of(Some("1.0.0")), Some(Serializer::V1));
        assert_eq!(Serializer::of(Some("2.0.0")), Some(Serializer::V2));
        for version in ["", "3.0.0", "x", "20"] {
            assert_eq!(Serializer::of(Some(version)), None, "{version}");
        }
    }
}
