//! The same facts as JSON, for programs: read with the session's cookie, or with a bearer token of `orrery console token --api`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde_json::json;

use super::{App, dead, fault::Fault, form::Fields, guard::Session, views, webhooks};

/// One page's facts.
pub async fn facts(
    request: HttpRequest,
    app: Data<App>,
    session: Session,
    facts: Path<String>,
) -> Result<HttpResponse, Fault> {
    let fields = Fields::parse(request.query_string().as_bytes());
    let snapshot = app.snapshot();
    let document = match facts.as_str() {
        "overview.json" => json!(snapshot.as_deref()),
        "queues.json" => json!(snapshot.map(|s| json!({"at": s.at, "queues": s.queues, "notes": s.notes}))),
        "outbox.json" => json!(snapshot.map(|s| json!({"at": s.at, "outbox": s.outbox}))),
        "replicas.json" => json!(snapshot.map(|s| json!({"at": s.at, "processes": s.processes}))),
        "jobs.json" => json!(app.jobs.rows()),
        "check.json" => json!(*views::checks(&app).await?),
        "dead.json" => {
            let page = dead::page(&app, &fields).await?.map_err(Fault::from)?;
            json!({"letters": page.letters, "next_after": page.next})
        }
        "webhooks.json" => json!(webhooks::listed(&app, &fields).await?.map_err(Fault::from)?),
        "providers.json" => json!({"providers": app.operator(&session.0).providers().await?}),
        "audit.json" => {
            let (lines, next) = views::audit_page(&app, &fields).await?.map_err(Fault::from)?;
            json!({"lines": lines, "next_before": next})
        }
        _ => {
            return Err(Fault::not_found(
                "there are overview.json, queues.json, dead.json, outbox.json, replicas.json, jobs.json, check.json, webhooks.json, providers.json and audit.json",
            ));
        }
    };
    Ok(HttpResponse::Ok().json(document))
}
