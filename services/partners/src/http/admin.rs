//! The admin API: what `orrery partners` does, for clients that have the scope `partners:admin`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Payload, Query},
};
use orrery_web::problem::Problem;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    AppState, bearer, body, fault,
    fields::{Page, shown},
    private,
};
use crate::{
    operator::{Actor, Create, Fresh, Operator},
    token::scope,
};

async fn operator(request: &HttpRequest, app: &AppState) -> Result<Operator, Problem> {
    let known = bearer::partner(request, app, scope::ADMIN).await?;
    Ok(app.operator(Some(Actor::Client(known.partner.name.clone()))))
}

/// A new partner, as a request has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    name: String,
    #[serde(default)]
    publishes: Vec<String>,
    #[serde(default)]
    receives: Vec<String>,
    #[serde(default)]
    sources: Vec<String>,
    contact: Option<String>,
    locale: Option<String>,
    events_per_minute: Option<i32>,
    max_endpoints: Option<i32>,
}

fn fresh(name: &str, fresh: &Fresh) -> Value {
    json!({ "id": fresh.id, "client_id": name, "client_secret": fresh.secret.as_str() })
}

/// Partners, by name.
pub async fn list(
    request: HttpRequest,
    app: Data<AppState>,
    page: Query<Page>,
) -> Result<HttpResponse, Problem> {
    let operator = operator(&request, &app).await?;
    let limit = Page::limit(&page, 1_000)?;
    let partners = operator.list(page.after.as_deref().unwrap_or_default(), limit).await;
    Ok(private(json!({ "partners": partners.map_err(|error| fault::command(&error))? })))
}

/// Makes one. An operator's client is made by the command only: nobody hands the scope on that he has.
pub async fn create(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let operator = operator(&request, &app).await?;
    let new: New = body::json(&request, payload).await?;
    let name = new.name.clone();
    let create = Create {
        name: new.name,
        publishes: new.publishes,
        receives: new.receives,
        sources: new.sources,
        contact: new.contact,
        locale: new.locale,
        events_per_minute: new.events_per_minute,
        max_endpoints: new.max_endpoints,
        is_operator: false,
    };
    let made = operator.create(create).await.map_err(|error| fault::command(&error))?;
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .insert_header((header::LOCATION, format!("/admin/partners/{name}")))
        .json(fresh(&name, &made)))
}

/// Shows one.
pub async fn show(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let operator = operator(&request, &app).await?;
    Ok(private(operator.show(&path).await.map_err(|error| fault::command(&error))?))
}

/// Removes one.
pub async fn remove(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let operator = operator(&request, &app).await?;
    operator.remove(&path).await.map_err(|error| fault::command(&error))?;
    app.changed.ring();
    Ok(HttpResponse::NoContent().finish())
}

/// Gives it a key.
pub async fn rotate_key(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let operator = operator(&request, &app).await?;
    let rotated = operator.rotate_key(&path).await.map_err(|error| fault::command(&error))?;
    Ok(private(fresh(&path, &rotated)))
}

/// Forbids it everything.
pub async fn disable(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    set_disabled(&request, &app, &path, true).await
}

/// Allows it again.
pub async fn enable(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    set_disabled(&request, &app, &path, false).await
}

async fn set_disabled(
    request: &HttpRequest,
    app: &AppState,
    name: &str,
    disabled: bool,
) -> Result<HttpResponse, Problem> {
    let operator = operator(request, app).await?;
    operator.set_disabled(name, disabled).await.map_err(|error| fault::command(&error))?;
    app.changed.ring();
    Ok(private(operator.show(name).await.map_err(|error| fault::command(&error))?))
}

/// Its endpoints.
pub async fn endpoints(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let operator = operator(&request, &app).await?;
    let endpoints = operator.endpoints(Some(&path)).await.map_err(|error| fault::command(&error))?;
    Ok(private(json!({ "endpoints": endpoints.iter().map(shown).collect::<Vec<_>>() })))
}

/// The newest schemas of all types.
pub async fn schemas(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let operator = operator(&request, &app).await?;
    let schemas = operator.schemas().await.map_err(|error| fault::command(&error))?;
    Ok(private(json!({ "event_types": schemas })))
}

/// Registers the next version of a type's schema.
pub async fn register(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let operator = operator(&request, &app).await?;
    let schema: Value = body::json(&request, payload).await?;
    let version = operator.register(&path, schema).await.map_err(|error| fault::command(&error))?;
    Ok(private(json!({ "type": path.as_str(), "version": version })))
}
