//! `/users/@me/export`: an archive of everything that is held about the caller.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Payload},
};
use orrery_observability::trace::in_current;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use uuid::Uuid;

use super::{AppState, bearer, fault, proof, trace};
use crate::{
    export::{self, AskExport, MAX_BYTES, TakeExport},
    session::principal::scope,
};

/// Asks for one.
pub async fn ask(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (principal, proof) = proof::of_body(&request, &app, payload, scope::READ_ACCOUNT).await?;
    let change = AskExport { account: principal.account.id, proof };
    let export = app.perform(change, trace::of(&request, &app), fault::change).await?;
    Ok(HttpResponse::Accepted().insert_header((header::CACHE_CONTROL, "private, no-store")).json(export))
}

/// How the newest one fares.
pub async fn newest(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, scope::READ_ACCOUNT).await?;
    let account = principal.account.id;
    let export = app
        .pool
        .run(move |mut connection| async move { export::newest(&mut connection, account).await })
        .await
        .map_err(|error| fault::store(&error))?
        .ok_or_else(|| Problem::new(Code::NotFound, "you have asked for no archive yet"))?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "private, no-store")).json(export))
}

/// Fetches one, once.
pub async fn fetch(
    request: HttpRequest,
    app: Data<AppState>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, scope::READ_ACCOUNT).await?;
    let absent = || Problem::new(Code::NotFound, "you have no such archive, or it is not ready yet");
    let export: Uuid = id.parse().map_err(|_| absent())?;
    let (account, now) = (principal.account.id, app.clock.now());
    let key = app
        .pool
        .run(move |mut connection| async move { export::ready(&mut connection, account, export, now).await })
        .await
        .map_err(|error| fault::change(&error))?
        .ok_or_else(absent)?;
    let objects = app.objects.clone();
    let body = app
        .main
        .spawn(in_current(async move { objects.get(&key, MAX_BYTES).await }))
        .await
        .map_err(|_| fault::unavailable("the archive could not be fetched"))?
        .map_err(|error| fault::objects(&error))?;
    // Only what is here counts as fetched; of two requests the second is refused.
    let taken = TakeExport { account, export };
    app.perform(taken, trace::of(&request, &app), fault::change).await?.ok_or_else(absent)?;
    Ok(HttpResponse::Ok()
        .content_type("application/zip")
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"account.zip\""))
        .body(body))
}
