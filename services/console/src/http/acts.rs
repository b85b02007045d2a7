//! What is done by a button, beside dead letters: a job is undone, rows are published again, an actor is restarted. Each has its line in the audit log.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use orrery_store::outbox;
use uuid::Uuid;

use super::{App, fault::Fault, form::Act, login::see, views::which};
use crate::access::{Access, Kind};

/// The most rows that one click publishes again.
const ROWS: u64 = 20_000;
/// How long another process believes that we asked.
const ASKED: Duration = Duration::from_secs(30);

/// Undoes a job, or stops it.
pub async fn stop_job(app: Data<App>, _act: Act, id: Path<String>) -> Result<HttpResponse, Fault> {
    let id = Uuid::parse_str(&id).map_err(|_| Fault::not_found("there is no such job"))?;
    if !app.jobs.stop(id).await {
        return Err(Fault::new(StatusCode::CONFLICT, "this job is over already", "Look at the jobs again."));
    }
    Ok(see("/jobs"))
}

/// Publishes rows of the outbox again.
pub async fn replay(app: Data<App>, Act { session, fields }: Act) -> Result<HttpResponse, Fault> {
    let (which, ty) = (which(&fields)?, fields.get("type").map(str::to_owned));
    let (operator, lifetime) = (app.operator(&session), app.event_lifetime);
    let moment = {
        let mut connection = app.pool.get().await?;
        outbox::now(&mut connection).await?
    };
    let work = async move { operator.replay(which, ty.as_deref(), moment, lifetime, ROWS, |_| {}).await };
    // A click that is taken back must not leave the log without an end.
    let done = app.main.spawn(work).await.map_err(|error| Fault::broken(&error))??;
    Ok(see(&format!("/outbox?which={}&done={done}", crate::operator::name(which))))
}

/// Restarts an actor.
pub async fn restart(app: Data<App>, Act { session, fields }: Act) -> Result<HttpResponse, Fault> {
    let actor = fields.get("actor").ok_or_else(|| Fault::wrong("no actor is named"))?;
    let process = fields.get("process").unwrap_or_default();
    let place = if process.is_empty() { "this process" } else { process };
    let begun = app.operator(&session).begin("actor.restart", &format!("{actor} of {place}")).await?;
    let done = if process.is_empty() {
        let is_there = app.supervisor.restart(actor, "an operator asked for a restart");
        if is_there { Ok(()) } else { Err("no such actor runs at present".to_owned()) }
    } else {
        let pass = Access::pass(&app.random, &session.actor, app.clock.now(), ASKED);
        let pass = app.access.seal(Kind::Process, &pass).map_err(|error| Fault::broken(&error))?;
        app.others.restart(process, actor, &pass).await
    };
    begun.end(if done.is_ok() { "restarted" } else { "not restarted" }).await?;
    match done {
        Ok(()) => Ok(see("/actors")),
        Err(why) => Err(Fault::new(
            StatusCode::CONFLICT,
            format!("{actor} was not restarted: {why}"),
            "Look at the actors again.",
        )),
    }
}
