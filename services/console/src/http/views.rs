//! Pages that show what was seen last, and those that ask the database or `orrery check` once. How they live on is in `live`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use orrery_service::Checked;
use orrery_store::outbox::{self, Which};
use serde::Serialize;
use uuid::Uuid;

use super::{App, fault::Fault, form::Fields, guard::Session, pages::Given};
use crate::{
    audit::{self, Line},
    chart::{self, Layout},
    operator, store,
};

/// Rows of a page.
pub const PAGE: usize = 50;
/// How long the lines of `orrery check` are believed.
const BELIEVED: Duration = Duration::from_secs(15);
/// How long they may take.
const CHECK: Duration = Duration::from_secs(30);

/// What a page that lives on is given; `live` gives the same again.
///
/// # Errors
/// When there is no such page.
pub fn living(app: &App, page: &str) -> Result<(&'static str, Given), Fault> {
    let snapshot = app.snapshot();
    let name = match page {
        "overview" => "live_overview.html",
        "queues" => "live_queues.html",
        "outbox" => "live_outbox.html",
        "actors" => "live_actors.html",
        "replicas" => "live_replicas.html",
        "jobs" => "live_jobs.html",
        _ => return Err(Fault::not_found("there is no such page")),
    };
    let charts = snapshot
        .as_ref()
        .filter(|_| page == "overview")
        .map(|snapshot| [chart::draw(snapshot, Layout::Wide), chart::draw(snapshot, Layout::Narrow)]);
    let jobs = (page == "jobs").then(|| app.jobs.rows());
    let old = snapshot.as_ref().map(|snapshot| {
        let seconds = crate::snapshot::seconds_between(snapshot.at, app.clock.now());
        seconds > (app.config.poll_every * 4).as_secs_f64().max(20.0)
    });
    Ok((
        name,
        given! { snapshot => snapshot.as_deref(), charts, jobs, old, undo_seconds => app.config.undo.as_secs() },
    ))
}

fn lives(app: &App, session: &Session, page: &'static str) -> Result<HttpResponse, Fault> {
    let (_, values) = living(app, page)?;
    let template = format!("{page}.html");
    app.page(session, &template, page, values)
}

/// What there is, how it is, and what to do.
pub async fn overview(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    lives(&app, &session, "overview")
}

/// Every queue.
pub async fn queues(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    lives(&app, &session, "queues")
}

/// Redrives and drops.
pub async fn jobs(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    lives(&app, &session, "jobs")
}

/// Every actor of every process.
pub async fn actors(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    lives(&app, &session, "actors")
}

/// Every process.
pub async fn replicas(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    lives(&app, &session, "replicas")
}

/// Which rows of the outbox a field means.
///
/// # Errors
/// When it means none.
pub fn which(fields: &Fields) -> Result<Which, Fault> {
    Ok(match fields.get("which") {
        None | Some("unrouted") => Which::Unrouted,
        Some("unwanted") => Which::Unwanted,
        Some("failed") => Which::Failed,
        Some(_) => return Err(Fault::wrong("'which' must be unrouted, unwanted or failed")),
    })
}

/// The outbox, with rows that wait for a decision.
pub async fn outbox(request: HttpRequest, app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    let fields = Fields::parse(request.query_string().as_bytes());
    let (which, ty) = (which(&fields)?, fields.get("type"));
    let rows = async {
        let mut connection = app.pool.get().await?;
        let moment = outbox::now(&mut connection).await?;
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let rows = outbox::list(&mut connection, which, ty, moment, limit).await?;
        Ok((rows, store::by_type(&mut connection).await?))
    };
    let (rows, away) = told(rows.await)?;
    let (rows, types) = rows.unzip();
    let (_, living) = living(&app, "outbox")?;
    let values = given! { rows, types, away, which => operator::name(which), ty, notice => number(&fields, "done"), ..living };
    app.page(&session, "outbox.html", "outbox", values)
}

/// The number of a field; what is none is nothing: a link of somebody else's must not put words into a page.
pub fn number(fields: &Fields, name: &str) -> Option<u64> {
    fields.get(name)?.parse().ok()
}

/// What a page shows where the database is away: the rest, and why.
pub fn told<T>(asked: Result<T, orrery_store::StoreError>) -> Result<(Option<T>, Option<String>), Fault> {
    match asked {
        Ok(answer) => Ok((Some(answer), None)),
        Err(error) if error.is_outage() => Ok((None, Some(error.to_string()))),
        Err(error) => Err(error.into()),
    }
}

/// Who did what.
pub async fn audit(request: HttpRequest, app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    let fields = Fields::parse(request.query_string().as_bytes());
    let (lines, away) = told(audit_page(&app, &fields).await?)?;
    let next = lines.as_ref().and_then(|(_, next)| *next);
    let lines = lines.map(|(lines, _)| lines);
    app.page(&session, "audit.html", "audit", given! { lines, next => next.map(|id| id.to_string()), away })
}

/// Lines of the audit log, and the id after which the next page begins.
pub type AuditPage = (Vec<Line>, Option<Uuid>);

/// A page of the audit log.
///
/// # Errors
/// When the page's beginning is no id.
pub async fn audit_page(
    app: &App,
    fields: &Fields,
) -> Result<Result<AuditPage, orrery_store::StoreError>, Fault> {
    let before = fields.get("before").map(Uuid::parse_str).transpose();
    let before = before.map_err(|_| Fault::wrong("'before' must be the last id of the page before"))?;
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let asked = async {
        let mut connection = app.pool.get().await?;
        audit::page(&mut connection, before, limit).await
    };
    Ok(asked.await.map(|mut lines| {
        let more = lines.len() > PAGE;
        lines.truncate(PAGE);
        let next = lines.last().map(|line| line.id).filter(|_| more);
        (lines, next)
    }))
}

/// The last lines of `orrery check`, and when they were asked for.
#[derive(Clone, Default)]
pub struct Checks(Arc<Mutex<Option<Asked>>>);

type Asked = (Instant, Arc<Vec<CheckLine>>);

/// A line of `orrery check`.
#[derive(Debug, Serialize)]
pub struct CheckLine {
    /// What was looked at.
    pub what: &'static str,
    /// Whether it is right.
    pub is_right: bool,
    /// What was found.
    pub text: String,
}

impl From<Checked> for CheckLine {
    fn from(Checked { what, result }: Checked) -> Self {
        let is_right = result.is_ok();
        Self { what, is_right, text: result.unwrap_or_else(|fault| fault) }
    }
}

/// The lines of `orrery check`, asked for again when they are old.
///
/// # Errors
/// When they take too long.
pub async fn checks(app: &App) -> Result<Arc<Vec<CheckLine>>, Fault> {
    let kept = app.checked.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((_, lines)) = kept.filter(|(at, _)| at.elapsed() < BELIEVED) {
        return Ok(lines);
    }
    // On the main runtime: what it opens must not live on a thread of HTTP.
    let asked = app.main.spawn((app.installation.check)());
    let lines = tokio::time::timeout(CHECK, asked).await;
    let late = || {
        Fault::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the checks took more than {CHECK:?}"),
            "Run 'orrery check': it shows a line as soon as it has it.",
        )
    };
    let lines = lines.map_err(|_| late())?.map_err(|error| Fault::broken(&error))?;
    let lines = Arc::new(lines.into_iter().map(CheckLine::from).collect());
    *app.checked.0.lock().unwrap_or_else(PoisonError::into_inner) =
        Some((Instant::now(), Arc::clone(&lines)));
    Ok(lines)
}

/// What is configured, what is missing, and the one next step.
pub async fn start(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    let lines = checks(&app).await?;
    let next = lines.iter().find(|line| !line.is_right);
    let services: Vec<_> = app
        .installation
        .services
        .iter()
        .map(|service| given! { name => service.name, about => service.about, is_here => service.is_here })
        .collect();
    let advice = &app.installation.advice;
    app.page(&session, "start.html", "start", given! { lines => &*lines, next, advice, services })
}
