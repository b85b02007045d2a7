//! `GET /events`: the log from a cursor on, for those who would rather fetch than be called.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Query},
};
use orrery_schemas::problems::Code;
use orrery_store::StoreError;
use orrery_web::problem::Problem;
use serde::Deserialize;
use tokio::time::Instant;

use super::{AppState, bearer, fault};
use crate::{
    deliver::tail::Entry,
    filter::{self, Filter},
    publish::allowed,
    records::{log, partners::Partner},
    token::scope,
};

/// Events that are answered at once, and their bytes.
const MOST: i64 = 1_000;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// The longest wait for the first event.
const LONGEST_WAIT: u64 = 30;
/// Events of the log that one request looks at.
const LOOKED_AT: usize = 20_000;

/// Where to begin, and what is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    after: Option<String>,
    limit: Option<i64>,
    wait: Option<u64>,
    types: Option<String>,
    filter: Option<String>,
}

impl Wanted {
    /// The filter.
    ///
    /// # Errors
    /// 422 where it cannot be used.
    pub fn filter(&self) -> Result<Filter, Problem> {
        let types = self.types.as_deref().unwrap_or_default().split(',').filter(|ty| !ty.is_empty());
        let expression = self.filter.as_deref().map(filter::parse).transpose();
        Ok(Filter {
            types: types.map(str::to_owned).collect(),
            attributes: Vec::new(),
            expression: expression.map_err(|error| fault::field("filter", error.to_string()))?,
        })
    }

    /// The position after which to begin: the one that was named, or that of what comes next.
    ///
    /// # Errors
    /// 400 where it is none, 410 where what follows it is not kept any more.
    pub async fn begin(&self, app: &AppState, last: Option<&str>) -> Result<i64, Problem> {
        let named = match last.or(self.after.as_deref()) {
            None => None,
            Some(text) => {
                let position = text.parse::<i64>().ok().filter(|position| *position >= 0);
                Some(position.ok_or_else(|| {
                    let message = "after is a cursor that was answered before, or 0 for the beginning";
                    Problem::field(Code::Malformed, "after", "invalid", message)
                })?)
            }
        };
        let (head, first) = app
            .pool
            .run(|mut connection| async move {
                Ok::<_, StoreError>((log::head(&mut connection).await?, log::first(&mut connection).await?))
            })
            .await
            .map_err(|error| fault::store(&error))?;
        match named {
            None => Ok(head),
            Some(named) if named > head => {
                let message = "this cursor is not of this log: begin anew without it";
                Err(Problem::field(Code::Malformed, "after", "invalid", message))
            }
            // 0 is the beginning of what there is; any other cursor must not skip anything.
            Some(0) => Ok(0),
            Some(named) if named < head && first.is_none_or(|first| first > named + 1) => {
                let detail = "what follows this cursor is not kept any more: begin with after=0";
                Err(Problem::new(Code::Deleted, detail))
            }
            Some(named) => Ok(named),
        }
    }
}

/// Whether a partner gets an event.
pub fn wants(partner: &Partner, filter: &Filter, entry: &Entry) -> bool {
    allowed::may_receive(partner, &entry.ty) && filter.wants(&entry.ty, &entry.attributes)
}

/// Answers what follows a cursor, and the next cursor.
pub async fn pull(
    request: HttpRequest,
    app: Data<AppState>,
    wanted: Query<Wanted>,
) -> Result<HttpResponse, Problem> {
    let known = bearer::partner(&request, &app, scope::SUBSCRIBE).await?;
    let filter = wanted.filter()?;
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::field(Code::Malformed, "limit", "invalid", format!("limit is 1 to {MOST}")));
    }
    let limit = usize::try_from(limit).unwrap_or(1);
    let wait = Duration::from_secs(wanted.wait.unwrap_or_default().min(LONGEST_WAIT));
    let mut cursor = wanted.begin(&app, None).await?;
    let mut head = app.tail.subscribe();
    let (until, mut shutdown) = (Instant::now() + wait, app.shutdown.clone());
    let (mut events, mut bytes, mut looked_at): (Vec<bytes::Bytes>, usize, usize) = (Vec::new(), 0, 0);
    'read: loop {
        let entries = app.tail.after(cursor, 200).await.map_err(|error| fault::store(&error))?;
        if entries.is_empty() {
            if !events.is_empty() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                () = shutdown.requested() => break,
                Ok(()) = head.changed() => continue,
            }
        }
        for entry in entries {
            if wants(&known.partner, &filter, &entry) {
                if events.len() >= limit || (bytes + entry.event.len() > MOST_BYTES && !events.is_empty()) {
                    break 'read;
                }
                bytes += entry.event.len();
                events.push(entry.event.clone());
            }
            cursor = entry.position;
            looked_at += 1;
        }
        // What is not wanted costs as well: the answer tells where to go on.
        if looked_at >= LOOKED_AT {
            break;
        }
    }
    // Events are JSON as they lie in the log.
    let mut body = br#"{"events":["#.to_vec();
    for (number, event) in events.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.extend_from_slice(format!(r#"],"cursor":"{cursor}"}}"#).as_bytes());
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .content_type("application/json")
        .body(body))
}
