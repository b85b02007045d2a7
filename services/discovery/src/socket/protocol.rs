//! What a frame brings about: joining and leaving, offers and answers, messages. Plain functions; the actor is `actor`.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};
use tracing::warn;

use super::{Close, Socket};
use crate::{
    metrics,
    name::{Name, NameFault},
    phoenix::{Incoming, LOBBY, PHOENIX, Reply},
    presence::{Meta, Profile},
    store::{Refused, StoreFault},
};

/// Why a request was refused, as clients may compare it.
mod reason {
    pub const UNMATCHED_TOPIC: &str = "unmatched topic";
    pub const UNKNOWN_EVENT: &str = "unknown event";
    pub const INVALID_PAYLOAD: &str = "invalid payload";
    pub const INVALID_RECIPIENT: &str = "invalid recipient";
    pub const FOREIGN_RECIPIENT: &str = "recipient of another server";
    pub const TOO_MANY: &str = "too many requests";
    pub const TOO_LONG: &str = "content too long";
    pub const MAILBOX_FULL: &str = "too many messages wait";
    pub const UNAVAILABLE: &str = "unavailable";
}

/// Handles a frame, and answers it.
pub async fn handle(socket: Arc<Socket>, text: String) {
    if !socket.budgets.lock().unwrap_or_else(PoisonError::into_inner).frames.take(Instant::now()) {
        return socket.outgoing.close(Close::TooFast);
    }
    let Ok(frame) = socket.serializer.read(&text) else {
        return socket.outgoing.close(Close::Invalid);
    };
    metrics::frame(&frame.event);
    let reply = answer(&socket, &frame).await;
    socket.outgoing.text(&socket.serializer.reply(&frame, &reply));
    match frame.event.as_str() {
        "phx_join" if frame.topic == LOBBY => greet(&socket, &reply).await,
        "phx_leave" if reply == Reply::ok() && frame.topic == LOBBY => {
            socket.outgoing.text(&socket.serializer.closed(&frame));
        }
        _ => {}
    }
}

async fn answer(socket: &Arc<Socket>, frame: &Incoming) -> Reply {
    match (frame.topic.as_str(), frame.event.as_str()) {
        (PHOENIX, "heartbeat") => Reply::ok(),
        // What is to be shown comes after the answer, in `greet`.
        (LOBBY, "phx_join") => Reply::ok(),
        (LOBBY, event) if socket.is_joined() => match event {
            "phx_leave" => leave(socket),
            "ping" => Reply::Ok(if frame.payload.is_object() { frame.payload.clone() } else { json!({}) }),
            "offer" | "sdp" => offer(socket, frame).await,
            "answer" | "candidate" => forward(socket, &frame.event, &frame.payload),
            "message" => message(socket, &frame.payload).await,
            _ => Reply::Error(reason::UNKNOWN_EVENT),
        },
        _ => Reply::Error(reason::UNMATCHED_TOPIC),
    }
}

/// A client has joined: it is online, is shown who else is, and gets what it has missed.
async fn greet(socket: &Arc<Socket>, reply: &Reply) {
    if *reply != Reply::ok() || socket.is_joined.swap(true, Ordering::AcqRel) {
        return;
    }
    let profile = match socket.shared.store.profile(&socket.name).await {
        Ok(profile) => profile,
        Err(error) => {
            // Whom it lets see it is not known, so that it would have to be hidden: it is to come back.
            unavailable(&error);
            return socket.outgoing.close(Close::Fault);
        }
    };
    appear(socket, profile);
    socket.receipt.joined();
    socket.wake.notify_one();
}

fn appear(socket: &Arc<Socket>, profile: Profile) {
    let shared = &socket.shared;
    let meta = Meta {
        online_at: shared.clock.now().timestamp(),
        phx_ref: BASE64.encode(shared.random.bytes::<12>()),
    };
    shared.presence.lock().join(socket.id, profile, meta);
    shared.presence.changed();
}

fn leave(socket: &Arc<Socket>) -> Reply {
    socket.is_joined.store(false, Ordering::Release);
    socket.shared.presence.lock().leave(socket.id);
    socket.shared.presence.changed();
    Reply::ok()
}

/// Keeps an offer, and hands it to its recipient, if it names one.
async fn offer(socket: &Arc<Socket>, frame: &Incoming) -> Reply {
    if !socket.budgets.lock().unwrap_or_else(PoisonError::into_inner).offers.take(Instant::now()) {
        return Reply::Error(reason::TOO_MANY);
    }
    let Some(sdp) = frame.payload.get("sdp").and_then(Value::as_str) else {
        return Reply::Error(reason::INVALID_PAYLOAD);
    };
    if let Err(error) = socket.shared.store.keep_offer(&socket.name, sdp).await {
        return unavailable(&error);
    }
    if frame.payload.get("recipient").is_none() {
        return Reply::ok();
    }
    forward(socket, "offer", &frame.payload)
}

/// Hands a payload to the sockets of its recipient. The answer does not tell whether there are any: the recipient may be hidden.
fn forward(socket: &Arc<Socket>, event: &str, payload: &Value) -> Reply {
    let Value::Object(fields) = payload else { return Reply::Error(reason::INVALID_PAYLOAD) };
    let recipient = match recipient(socket, fields) {
        Ok(recipient) => recipient,
        Err(reason) => return Reply::Error(reason),
    };
    let mut fields = fields.clone();
    fields.remove("recipient");
    fields.insert("sender".to_owned(), Value::from(socket.name.as_str()));
    let directory = socket.shared.presence.lock();
    let is_seen = recipient == socket.name
        || directory.profile(&recipient).is_some_and(|profile| profile.lets_see(&socket.name));
    if !is_seen {
        return Reply::ok();
    }
    let payload = Value::Object(fields);
    let elsewhere = directory.forward(&recipient, event, &payload);
    drop(directory);
    if socket.shared.link.forward(&elsewhere, recipient, event, payload) {
        Reply::ok()
    } else {
        Reply::Error(reason::UNAVAILABLE)
    }
}

fn recipient(socket: &Socket, fields: &Map<String, Value>) -> Result<Name, &'static str> {
    let address = fields.get("recipient").and_then(Value::as_str).ok_or(reason::INVALID_RECIPIENT)?;
    Name::of_address(address, &socket.shared.domain).map_err(|fault| match fault {
        NameFault::Malformed => reason::INVALID_RECIPIENT,
        NameFault::Foreign => reason::FOREIGN_RECIPIENT,
    })
}

/// Keeps a message for its recipient. Once it is answered it is not lost.
async fn message(socket: &Arc<Socket>, payload: &Value) -> Reply {
    let Value::Object(fields) = payload else { return Reply::Error(reason::INVALID_PAYLOAD) };
    let recipient = match recipient(socket, fields) {
        Ok(recipient) => recipient,
        Err(reason) => return Reply::Error(reason),
    };
    let Some(content) = fields.get("content").and_then(Value::as_str) else {
        return Reply::Error(reason::INVALID_PAYLOAD);
    };
    if content.len() > socket.shared.limits.message {
        return Reply::Error(reason::TOO_LONG);
    }
    let kept = socket.shared.store.put_message(&socket.name, &recipient, content).await;
    match kept {
        Ok(id) => {
            metrics::messages("kept", 1);
            socket.shared.wake(recipient);
            Reply::Ok(json!({"id": id}))
        }
        Err(Refused::Full) => Reply::Error(reason::MAILBOX_FULL),
        Err(Refused::Fault(error)) => unavailable(&error),
    }
}

fn unavailable(error: &StoreFault) -> Reply {
    warn!(%error, "a request of a socket was turned away");
    Reply::Error(reason::UNAVAILABLE)
}
