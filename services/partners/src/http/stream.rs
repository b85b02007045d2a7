//! `GET /events/stream`: the log as server-sent events, which browsers and `curl` follow. `Last-Event-ID` goes on where a connection broke.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data, Query},
};
use futures_util::stream;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::debug;

use super::{
    AppState, bearer,
    directory::Known,
    pull::{Wanted, wants},
};
use crate::{deliver::tail::Entry, filter::Filter, token::scope};

/// A comment is sent after so much silence, so that nobody in between ends the connection.
const COMMENT: Duration = Duration::from_secs(15);
/// Events that are read at once.
const READ: usize = 64;

/// A stream that is open.
struct Open {
    app: Data<AppState>,
    known: Arc<Known>,
    filter: Filter,
    cursor: i64,
    head: watch::Receiver<i64>,
    buffer: VecDeque<Arc<Entry>>,
    _place: OwnedSemaphorePermit,
}

/// Streams what follows a cursor, without an end.
pub async fn stream(
    request: HttpRequest,
    app: Data<AppState>,
    wanted: Query<Wanted>,
) -> Result<HttpResponse, Problem> {
    let known = bearer::partner(&request, &app, scope::SUBSCRIBE).await?;
    let filter = wanted.filter()?;
    let place = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Problem::new(
            Code::Unavailable,
            "as many streams are open as may be; use GET /events, or try again later",
        )
    })?;
    let last = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let cursor = wanted.begin(&app, last).await?;
    let head = app.tail.subscribe();
    let open = Open { known, filter, cursor, head, buffer: VecDeque::new(), _place: place, app };
    let events = stream::unfold(open, |mut open| async move {
        let chunk = open.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), open))
    });
    // The first comment tells a client that it is connected.
    let first = stream::once(async { Ok(Bytes::from_static(b": connected\n\n")) });
    let events = futures_util::StreamExt::chain(first, events);
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(Box::pin(events)))
}

impl Open {
    /// What is sent next; nothing when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        let mut shutdown = self.app.shutdown.clone();
        loop {
            // A client that was disabled, or lost its key, hears nothing more.
            let partner = match self.app.directory.find(self.known.partner.id).await {
                Ok(Some(known)) => known,
                Ok(None) => return None,
                Err(error) => {
                    debug!(%error, "a stream ends: its client cannot be looked up");
                    return None;
                }
            };
            self.known = partner;
            while let Some(entry) = self.buffer.pop_front() {
                self.cursor = entry.position;
                if wants(&self.known.partner, &self.filter, &entry) {
                    return Some(message(&entry));
                }
            }
            match self.app.tail.after(self.cursor, READ).await {
                Ok(entries) if !entries.is_empty() => self.buffer.extend(entries),
                Ok(_) => {
                    tokio::select! {
                        () = shutdown.requested() => return None,
                        () = tokio::time::sleep(COMMENT) => return Some(Bytes::from_static(b":\n\n")),
                        changed = self.head.changed() => changed.ok()?,
                    }
                }
                Err(error) => {
                    debug!(%error, "a stream ends: the log cannot be read");
                    return None;
                }
            }
        }
    }
}

/// One event. Its JSON has no line break: it was written without any.
fn message(entry: &Entry) -> Bytes {
    let mut text = format!("id: {}\nevent: cloudevent\ndata: ", entry.position).into_bytes();
    text.extend_from_slice(&entry.event);
    text.extend_from_slice(b"\n\n");
    text.into()
}
