//! `GET /socket/websocket?token=...`: the upgrade to a WebSocket (RFC 6455). A refusal comes before the upgrade, with a problem document.

use std::{any::Any, sync::Arc, time::Duration};

use actix_http::ws;
use actix_web::{
    HttpRequest, HttpResponse,
    body::BodyStream,
    http::header,
    rt,
    rt::net::TcpStream,
    web::{Data, Payload},
};
use chrono::DateTime;
use orrery_schemas::problems::Code;
use orrery_web::{
    problem::Problem,
    tokens::{self, TokenFault},
};
use tokio::sync::Notify;
use tracing::debug;
use url::form_urlencoded;

use super::{AppState, fault};
use crate::{
    name::Name,
    phoenix::Serializer,
    presence::{Opened, TooMany},
    socket::{self, Outgoing, Socket},
};

/// What the query asks for.
#[derive(Default)]
struct Asked {
    token: Option<String>,
    version: Option<String>,
}

impl Asked {
    fn read(query: &str) -> Self {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "token" => asked.token = Some(value.into_owned()),
                "vsn" => asked.version = Some(value.into_owned()),
                _ => {}
            }
        }
        asked
    }
}

pub async fn upgrade(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let asked = Asked::read(request.query_string());
    let serializer = Serializer::of(asked.version.as_deref()).ok_or_else(|| {
        let detail = "this version of the serializer is not spoken here; those are 1.0.0 and 2.0.0";
        Problem::field(Code::Malformed, "vsn", "unknown", detail)
    })?;
    // The contract wants 403, since there is nothing that a client of a WebSocket could answer to a challenge.
    let forbidden = |detail: &str| Problem::new(Code::Forbidden, detail);
    let token = asked.token.as_deref().or_else(|| tokens::bearer(request.headers()));
    let token = token.ok_or_else(|| forbidden("give an access token: /socket/websocket?token=..."))?;
    let invalid = || forbidden("the access token is not valid; get a new one");
    let claims = app.keys.verify(token).await.map_err(|fault| match fault {
        TokenFault::Invalid => invalid(),
        TokenFault::Unavailable => fault::keys_unavailable(),
    })?;
    let name = Name::of_subject(&claims.sub).map_err(|_| invalid())?;
    let expires_at = DateTime::from_timestamp(claims.exp, 0).ok_or_else(invalid)?;
    let upgrade = ws::handshake(request.head()).map_err(|error| {
        let detail = format!("a WebSocket is opened here ({error})");
        Problem::new(Code::Malformed, detail)
    });
    let mut response = upgrade?;
    if let Some(session) = claims.sid {
        let goes_on = app.shared.store.session_goes_on(session, &name).await;
        if !goes_on.map_err(|error| fault::store(&error))? {
            return Err(forbidden("the session of this access token has ended; log in again"));
        }
    }

    let shared = app.shared.clone();
    let (outgoing, body) = Outgoing::new(shared.limits.buffer);
    let wake = Arc::new(Notify::new());
    let opened = Opened {
        name: name.clone(),
        session: claims.sid,
        outgoing: outgoing.clone(),
        serializer,
        wake: Arc::clone(&wake),
    };
    let opened = shared.presence.lock().open(opened);
    let id = opened.map_err(|too_many| match too_many {
        TooMany::OfAccount => {
            Problem::new(Code::TooManyRequests, "this account has as many sockets as it may")
        }
        TooMany::OfAll => {
            Problem::new(Code::Unavailable, "as many sockets are open as may be; try again later")
        }
    })?;
    let parts = socket::Parts { id, name, expires_at, outgoing, serializer, wake };
    let socket = Arc::new(Socket::new(shared, parts));
    let actor = socket::start(&socket);
    // The task ends with the connection, or with the socket, which closes it.
    rt::spawn(socket::read(socket, actor, payload));
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    let response = response.message_body(BodyStream::new(body)).map_err(|error| {
        debug!(%error, "the answer to an upgrade cannot be written");
        Problem::new(Code::Internal, "the upgrade cannot be answered")
    })?;
    Ok(response.map_into_boxed_body().into())
}

/// A connection whose other side takes nothing for so long is cut: its buffers would be kept for ever.
pub fn limit_writing(connection: &dyn Any, patience: Duration) {
    let Some(tcp) = connection.downcast_ref::<TcpStream>() else { return };
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(tcp, millis) {
        debug!(%error, "the time for writing to a connection cannot be limited");
    }
}
