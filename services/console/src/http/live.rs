//! Pages that live on: each viewer hears by server-sent events when there is something new, made of what all viewers share.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web::{Bytes, Data, Path},
};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;

use super::{App, fault::Fault, guard::Session, pages::context_of, views};
use crate::{access::Pass, observer::Latest};

/// How often something is sent where nothing is new, so that nothing between us takes the connection for dead.
const ALIVE: Duration = Duration::from_secs(15);
/// Changes of jobs come in quick succession; they are shown no faster.
const LEAST: Duration = Duration::from_millis(400);

/// One viewer.
struct Viewer {
    app: Arc<App>,
    session: Pass,
    page: String,
    latest: Latest,
    jobs: tokio::sync::watch::Receiver<u64>,
    _place: OwnedSemaphorePermit,
}

/// The page's living part, again and again.
pub async fn live(app: Data<App>, session: Session, page: Path<String>) -> Result<HttpResponse, Fault> {
    let page = page.into_inner();
    views::living(&app, &page)?;
    let place = Arc::clone(&app.viewers).try_acquire_owned().map_err(|_| {
        Fault::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many watch as may",
            "The page is as it was when it was opened; reload it, or raise console.viewers.",
        )
    })?;
    let mut latest = app.latest.clone();
    // What came between the page and this is told at once.
    latest.mark_changed();
    let viewer = Viewer {
        latest,
        jobs: app.jobs.changes(),
        app: app.into_inner(),
        session: session.0,
        page,
        _place: place,
    };
    let events = stream::unfold(viewer, |mut viewer| async move {
        let text = viewer.next().await?;
        Some((Ok::<_, Fault>(Bytes::from(text)), viewer))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(events))
}

impl Viewer {
    /// What is sent next; none when it is over.
    async fn next(&mut self) -> Option<String> {
        let mut shutdown = self.app.shutdown.clone();
        let wants_jobs = self.page == "jobs";
        tokio::select! {
            changed = self.latest.changed() => changed.ok()?,
            changed = self.jobs.changed(), if wants_jobs => {
                changed.ok()?;
                tokio::time::sleep(LEAST).await;
            }
            () = tokio::time::sleep(ALIVE) => return Some(": alive\n\n".to_owned()),
            () = shutdown.requested() => return None,
        }
        let is_over = self.session.expires <= self.app.clock.now().timestamp();
        if is_over || self.app.sessions.is_ended(&self.session) {
            return None;
        }
        self.latest.mark_unchanged();
        self.jobs.mark_unchanged();
        let (template, values) = views::living(&self.app, &self.page).ok()?;
        let values = context_of(&self.app, Some(&self.session), &self.page, values);
        let html = self.app.pages.render(template, values).ok()?;
        let mut event = String::with_capacity(html.len() + html.len() / 16);
        for line in html.lines().filter(|line| !line.trim().is_empty()) {
            event.push_str("data: ");
            event.push_str(line);
            event.push('\n');
        }
        event.push('\n');
        Some(event)
    }
}
