//! `POST /events`: events of partners come in. The answer is given after the commit.

use std::{sync::Arc, time::Instant};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Payload},
};
use cloudevents::{AttributesReader as _, Event};
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde::Serialize;
use serde_json::json;

use super::{AppState, bearer, body, directory::Known, fault};
use crate::{
    publish::{
        Refused,
        intake::{Ready, Taken},
        request::{self, Sent},
    },
    token::scope,
};

/// What became of one event of a batch.
#[derive(Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    status: &'static str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    ty: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Takes one event or a batch.
pub async fn publish(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let known = bearer::partner(&request, &app, scope::PUBLISH).await?;
    let bytes = body::read(payload, body::EVENTS).await?;
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    match request::read(headers, &bytes, app.config.batch).map_err(fault::refused)? {
        Sent::One(event) => {
            let event = event.map_err(fault::refused)?;
            quota(&app, &known, 1)?;
            let (id, source) = (event.id().to_owned(), event.source().to_owned());
            let ready = app.intake.prepare(&known.partner, *event, app.clock.now()).await;
            let taken = app.intake.take(vec![ready.map_err(fault::refused)?]).await;
            let taken = taken.map_err(|error| fault::store(&error))?.first().copied();
            let results = [accepted(id, source, taken.unwrap_or(Taken::Accepted))];
            Ok(answer(StatusCode::ACCEPTED, &results))
        }
        Sent::Batch(events) => {
            quota(&app, &known, u32::try_from(events.len()).unwrap_or(u32::MAX))?;
            batch(&app, &known, events).await
        }
    }
}

/// Takes those of a batch that may be taken, together.
async fn batch(
    app: &AppState,
    known: &Arc<Known>,
    events: Vec<Result<Event, Refused>>,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let (mut outcomes, mut ready): (Vec<Outcome>, Vec<(usize, Ready)>) = (Vec::new(), Vec::new());
    for event in events {
        let at = outcomes.len();
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                outcomes.push(refused(None, None, error)?);
                continue;
            }
        };
        let (id, source) = (event.id().to_owned(), event.source().to_owned());
        match app.intake.prepare(&known.partner, event, now).await {
            Ok(prepared) => {
                ready.push((at, prepared));
                outcomes.push(accepted(id, source, Taken::Accepted));
            }
            Err(error) => outcomes.push(refused(Some(id), Some(source), error)?),
        }
    }
    let (places, prepared): (Vec<usize>, Vec<Ready>) = ready.into_iter().unzip();
    let is_whole = places.len() == outcomes.len();
    if !prepared.is_empty() {
        let taken = app.intake.take(prepared).await.map_err(|error| fault::store(&error))?;
        for (place, taken) in places.iter().zip(taken) {
            if let Some(outcome) = outcomes.get_mut(*place) {
                outcome.status = status(taken);
            }
        }
    }
    let code = match (is_whole, places.is_empty()) {
        (true, _) => StatusCode::ACCEPTED,
        (false, false) => StatusCode::MULTI_STATUS,
        (false, true) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(answer(code, &outcomes))
}

fn quota(app: &AppState, known: &Known, events: u32) -> Result<(), Problem> {
    let own = known.partner.events_per_minute.and_then(|number| u32::try_from(number).ok());
    let per_minute = own.unwrap_or(app.config.events_per_minute);
    app.quotas.take(known.partner.id, per_minute, events, Instant::now()).map_err(|wait| {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let detail = format!("this client may send {per_minute} events a minute; try again in {seconds} s");
        Problem::new(Code::TooManyRequests, detail).retry_after(seconds)
    })
}

fn status(taken: Taken) -> &'static str {
    match taken {
        Taken::Accepted => "accepted",
        Taken::Duplicate => "duplicate",
    }
}

fn accepted(id: String, source: String, taken: Taken) -> Outcome {
    Outcome { id: Some(id), source: Some(source), status: status(taken), ty: None, detail: None }
}

/// # Errors
/// A database that is away is no event's fault: the whole batch is to come again.
fn refused(id: Option<String>, source: Option<String>, error: Refused) -> Result<Outcome, Problem> {
    if error.code.status() >= 500 {
        return Err(fault::refused(error));
    }
    Ok(Outcome { id, source, status: "refused", ty: Some(error.code.uri()), detail: Some(error.detail) })
}

fn answer(status: StatusCode, results: &[Outcome]) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .json(json!({ "results": results }))
}
