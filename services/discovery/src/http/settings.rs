//! `/peers/@me`: what a peer has chosen. Whoever was shown it and may not see it any more is told that it left.

use std::collections::BTreeSet;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Json, Path},
};
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde::{Deserialize, Serialize};

use super::{AppState, bearer, fault};
use crate::{
    name::Name,
    presence::Visibility,
    store::{Relation, TooManyRelations},
};

#[derive(Serialize)]
struct Shown {
    visibility: Visibility,
    contacts: BTreeSet<String>,
    blocked: BTreeSet<String>,
}

/// What can be set.
#[derive(Deserialize)]
pub struct Choice {
    visibility: String,
}

pub async fn show(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let name = bearer::peer(&request, &app).await?;
    let profile = app.shared.store.profile(&name).await.map_err(|error| fault::store(&error))?;
    let names = |some: std::collections::HashSet<Name>| some.into_iter().map(String::from).collect();
    let shown = Shown {
        visibility: profile.visibility,
        contacts: names(profile.contacts),
        blocked: names(profile.blocked),
    };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(shown))
}

pub async fn set(
    request: HttpRequest,
    app: Data<AppState>,
    choice: Json<Choice>,
) -> Result<HttpResponse, Problem> {
    let name = bearer::peer(&request, &app).await?;
    let visibility = Visibility::parse(&choice.visibility).ok_or_else(|| {
        let message = "choose public, contacts or hidden";
        Problem::field(Code::InvalidField, "visibility", "unknown", message)
    })?;
    app.shared.store.set_visibility(&name, visibility).await.map_err(|error| fault::store(&error))?;
    Ok(changed(&app, name))
}

pub async fn add_contact(
    request: HttpRequest,
    app: Data<AppState>,
    vanity: Path<String>,
) -> Result<HttpResponse, Problem> {
    relate(&request, &app, &vanity, Relation::Contact).await
}

pub async fn remove_contact(
    request: HttpRequest,
    app: Data<AppState>,
    vanity: Path<String>,
) -> Result<HttpResponse, Problem> {
    unrelate(&request, &app, &vanity, Relation::Contact).await
}

pub async fn block(
    request: HttpRequest,
    app: Data<AppState>,
    vanity: Path<String>,
) -> Result<HttpResponse, Problem> {
    relate(&request, &app, &vanity, Relation::Blocked).await
}

pub async fn unblock(
    request: HttpRequest,
    app: Data<AppState>,
    vanity: Path<String>,
) -> Result<HttpResponse, Problem> {
    unrelate(&request, &app, &vanity, Relation::Blocked).await
}

async fn relate(
    request: &HttpRequest,
    app: &AppState,
    vanity: &str,
    relation: Relation,
) -> Result<HttpResponse, Problem> {
    let name = bearer::peer(request, app).await?;
    let other = other(app, &name, vanity)?;
    let done = app.shared.store.relate(&name, &other, relation).await;
    match done.map_err(|error| fault::store(&error))? {
        Ok(()) => Ok(changed(app, name)),
        Err(TooManyRelations) => {
            let message = "there are as many as may be; remove some first";
            Err(Problem::field(Code::InvalidField, "vanity", "too_many", message))
        }
    }
}

async fn unrelate(
    request: &HttpRequest,
    app: &AppState,
    vanity: &str,
    relation: Relation,
) -> Result<HttpResponse, Problem> {
    let name = bearer::peer(request, app).await?;
    let other = other(app, &name, vanity)?;
    app.shared.store.unrelate(&name, &other, relation).await.map_err(|error| fault::store(&error))?;
    Ok(changed(app, name))
}

fn other(app: &AppState, name: &Name, vanity: &str) -> Result<Name, Problem> {
    let other = Name::of_address(vanity, &app.shared.domain).map_err(fault::name)?;
    if other == *name {
        return Err(Problem::field(Code::InvalidField, "vanity", "own", "this is your own name"));
    }
    Ok(other)
}

/// Has every replica read it where the peer is online.
fn changed(app: &AppState, name: Name) -> HttpResponse {
    app.shared.presence.mark_stale(&name);
    // Where it is not told, the sweep finds it.
    let _told = app.shared.link.changed(name);
    HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "no-store")).finish()
}
