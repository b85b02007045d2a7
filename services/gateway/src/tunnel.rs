//! Upgrades, such as WebSockets: the request's head is passed to a replica on a connection of its own, and then bytes both ways until one side
//! ends. Plain requests live in `proxy`.

use std::{fmt::Write as _, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodyStream, MessageBody},
    dev::Payload,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    rt,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::timeout,
};

use crate::{
    end_to_end,
    upstream::{Endpoint, Link, LinkError, Outstanding, Tls, connect},
};

/// The longest head of an answer, and how many fields it may have.
const HEAD_BYTES: usize = 16 * 1024;
const FIELDS: usize = 64;
/// How much is read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How long a replica may take to answer.
const ANSWER: Duration = Duration::from_secs(15);

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No connection: nothing was sent.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It broke, or its answer makes no sense.
    #[error("the upstream broke off: {0}")]
    Broken(String),
    /// It did not answer in time.
    #[error("the upstream did not answer in time")]
    Late,
}

/// A connection over which an answer came.
pub struct Opened {
    link: Link,
    status: StatusCode,
    headers: HeaderMap,
    /// What came behind the head.
    rest: Bytes,
}

/// Whether a request asks for another protocol.
pub fn is_upgrade(request: &HttpRequest) -> bool {
    request.headers().contains_key(header::UPGRADE)
        && request
            .headers()
            .get_all(header::CONNECTION)
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
}

/// Sends the head of an upgrade and reads that of its answer.
///
/// # Errors
/// When no answer comes.
pub async fn open(
    endpoint: &Endpoint,
    tls: Option<&Tls>,
    limit: Duration,
    target: &str,
    headers: &HeaderMap,
) -> Result<Opened, TunnelError> {
    let mut link = connect(endpoint, tls, limit).await?;
    timeout(ANSWER, async {
        let broken = |error: std::io::Error| TunnelError::Broken(error.to_string());
        link.write_all(&head(target, headers)).await.map_err(broken)?;
        link.flush().await.map_err(broken)?;
        let mut read = BytesMut::with_capacity(1024);
        loop {
            if let Some((status, headers, length)) = parse(&read)? {
                let rest = read.split_off(length).freeze();
                return Ok(Opened { link, status, headers, rest });
            }
            if read.len() >= HEAD_BYTES {
                return Err(TunnelError::Broken("the head of its answer is too long".to_owned()));
            }
            if link.read_buf(&mut read).await.map_err(broken)? == 0 {
                return Err(TunnelError::Broken("it ended before its answer".to_owned()));
            }
        }
    })
    .await
    .unwrap_or(Err(TunnelError::Late))
}

fn head(target: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut line = String::new();
    let written = write!(line, "GET {target} HTTP/1.1\r\n");
    debug_assert!(written.is_ok(), "a String takes all that is written");
    let mut head = line.into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Status, fields and length of a head that is whole.
fn parse(bytes: &[u8]) -> Result<Option<(StatusCode, HeaderMap, usize)>, TunnelError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let parsed = answer.parse(bytes).map_err(|error| TunnelError::Broken(error.to_string()))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| TunnelError::Broken("it has no status".to_owned()))?;
    let mut headers = HeaderMap::new();
    for field in answer.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    Ok(Some((status, headers, length)))
}

impl Opened {
    /// The answer to the client; where it switches protocols, all that the client sends goes up and all that comes goes down.
    pub fn answer(self, payload: Payload, outstanding: Outstanding) -> HttpResponse {
        let Self { link, status, headers, rest } = self;
        let mut down = end_to_end::for_client(&headers);
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return refused(status, down, &headers, link, rest, outstanding);
        }
        let protocol = headers.get(header::UPGRADE).cloned();
        let protocol = protocol.unwrap_or_else(|| HeaderValue::from_static("websocket"));
        let (read, write) = split(link);
        rt::spawn(up(payload, write));
        let mut response = HttpResponse::build(status)
            .upgrade(protocol.clone())
            .message_body(BodyStream::new(Box::pin(chunks(rest, read, outstanding.upgraded()))).boxed())
            .unwrap_or_else(HttpResponse::from_error);
        down.insert(header::UPGRADE, protocol);
        *response.headers_mut() = down;
        response
    }
}

/// An answer that refuses the upgrade: passed on when it tells its length.
fn refused(
    status: StatusCode,
    down: HeaderMap,
    headers: &HeaderMap,
    link: Link,
    rest: Bytes,
    outstanding: Outstanding,
) -> HttpResponse {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let (read, _) = split(link);
    let body = match length {
        Some(length) => {
            actix_web::body::SizedStream::new(length, Box::pin(chunks(rest, read, outstanding))).boxed()
        }
        None => actix_web::body::None::new().boxed(),
    };
    let mut response = HttpResponse::with_body(status, body);
    *response.headers_mut() = down;
    response
}

async fn up(mut payload: Payload, mut write: WriteHalf<Link>) {
    // Whichever side fails, both end: the other half is dropped with the answer.
    while let Some(Ok(chunk)) = payload.next().await {
        if write.write_all(&chunk).await.is_err() || write.flush().await.is_err() {
            return;
        }
    }
    drop(write.shutdown().await);
}

fn chunks(
    rest: Bytes,
    read: ReadHalf<Link>,
    held: impl Sized + 'static,
) -> impl stream::Stream<Item = std::io::Result<Bytes>> {
    stream::unfold((rest, read, held), |(rest, mut read, held)| async move {
        if !rest.is_empty() {
            return Some((Ok(rest), (Bytes::new(), read, held)));
        }
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        match read.read_buf(&mut chunk).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(chunk.freeze()), (Bytes::new(), read, held))),
            Err(error) => Some((Err(error), (Bytes::new(), read, held))),
        }
    })
}
