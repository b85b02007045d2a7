//! `GET /users/{id}` and `GET /users/@me`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};
use orrery_actors::{store::StoreError, web::problem::Problem};
use orrery_schemas::problems::Code;
use uuid::Uuid;

use super::{Desk, bearer, fault};
use crate::account::{
    fields::Vanity,
    lookup::{self, Account, Icon},
    person::person,
};

/// Anybody's profile.
pub async fn user(request: HttpRequest, desk: Data<Desk>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let (account, icons) = by_id(&desk, &id).await?;
    Ok(answer(&request, &desk, &account, &icons, "public, max-age=5"))
}

/// The caller's profile.
pub async fn me(request: HttpRequest, desk: Data<Desk>) -> Result<HttpResponse, Problem> {
    let account = bearer::account(&request, &desk).await?;
    let icons = icons(&desk, account.icon_upload).await?;
    Ok(answer(&request, &desk, &account, &icons, "private, no-store"))
}

/// The account of that name and its pictures.
///
/// # Errors
/// 404 where nobody is called so, 410 where somebody was.
pub async fn by_id(desk: &Desk, id: &str) -> Result<(Account, Vec<Icon>), Problem> {
    let nobody = || Problem::new(Code::NotFound, "nobody is called so");
    let vanity = Vanity::parse(id).ok_or_else(nobody)?;
    let found = desk
        .pool
        .run(move |mut connection| async move {
            let Some(account) = lookup::by_vanity(&mut connection, &vanity.key).await? else {
                return Ok(None);
            };
            let icons = match account.icon_upload {
                Some(upload) => lookup::icons(&mut connection, upload).await?,
                None => Vec::new(),
            };
            Ok::<_, StoreError>(Some((account, icons)))
        })
        .await
        .map_err(|error| fault::store(&error))?;
    let (account, icons) = found.ok_or_else(nobody)?;
    if account.deleted_at.is_some() {
        return Err(Problem::new(Code::Deleted, "this account was deleted"));
    }
    Ok((account, icons))
}

async fn icons(desk: &Desk, upload: Option<Uuid>) -> Result<Vec<Icon>, Problem> {
    let Some(upload) = upload else { return Ok(Vec::new()) };
    desk.pool
        .run(move |mut connection| async move { lookup::icons(&mut connection, upload).await })
        .await
        .map_err(|error| fault::store(&error))
}

fn answer(
    request: &HttpRequest,
    desk: &Desk,
    account: &Account,
    icons: &[Icon],
    cache: &'static str,
) -> HttpResponse {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let activity = accept.is_some_and(|accept| accept.contains("application/activity+json"));
    let media_type = if activity { "application/activity+json" } else { "application/json" };
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, cache))
        .insert_header((header::VARY, "Accept"))
        .content_type(media_type)
        .body(person(desk.config.base(), account, icons, activity).to_string())
}
