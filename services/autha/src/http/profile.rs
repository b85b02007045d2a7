//! `GET /users/{id}` and `GET /users/@me`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};
use orrery_schemas::{problems::Code, routes::CACHE_TAG};
use orrery_store::StoreError;
use orrery_web::problem::Problem;

use super::{AppState, bearer, fault, negotiate};
use crate::{
    account::{
        lookup::{self, Account, Icon, Named},
        person::{Profile, person},
        vanity::Vanity,
    },
    session::principal::scope,
};

/// Anybody's profile.
pub async fn user(
    request: HttpRequest,
    app: Data<AppState>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let account = by_id(&app, &id).await?;
    let tagged = account.clone();
    let profile = shown(&app, account).await?;
    let mut answer = answer(&request, &app, &profile, "public, max-age=5");
    tag(&mut answer, &tagged);
    Ok(answer)
}

/// Says to the gateway's cache whose an answer is; the gateway takes it off.
pub fn tag(answer: &mut HttpResponse, account: &Account) {
    if let Ok(id) = header::HeaderValue::from_str(&account.id.to_string()) {
        answer.headers_mut().insert(header::HeaderName::from_static(CACHE_TAG), id);
    }
}

/// The caller's profile.
pub async fn me(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, scope::READ_ACCOUNT).await?;
    let profile = shown(&app, principal.account).await?;
    Ok(answer(&request, &app, &profile, "private, no-store"))
}

/// The account of that name.
///
/// # Errors
/// 404 where nobody is called so, 410 where somebody was.
pub async fn by_id(app: &AppState, id: &str) -> Result<Account, Problem> {
    let nobody = || Problem::new(Code::NotFound, "nobody is called so");
    let vanity = Vanity::parse(id).ok_or_else(nobody)?;
    let found = app
        .pool
        .run(move |mut connection| async move { lookup::by_vanity(&mut connection, &vanity.key).await })
        .await
        .map_err(|error| fault::store(&error))?;
    match found {
        Named::Somebody(account) if account.suspended_at.is_some() => {
            Err(Problem::new(Code::Deleted, "this account is suspended"))
        }
        Named::Somebody(account) => Ok(*account),
        Named::Deleted => Err(Problem::new(Code::Deleted, "this account was deleted")),
        Named::Nobody => Err(nobody()),
    }
}

/// The account's pictures, largest first.
///
/// # Errors
/// 503 while the database is away.
pub async fn icons(app: &AppState, account: &Account) -> Result<Vec<Icon>, Problem> {
    let Some(upload) = account.icon_upload else { return Ok(Vec::new()) };
    app.pool
        .run(move |mut connection| async move { lookup::icons(&mut connection, upload).await })
        .await
        .map_err(|error| fault::store(&error))
}

async fn shown(app: &AppState, account: Account) -> Result<Profile, Problem> {
    let (id, upload) = (account.id, account.icon_upload);
    let (icons, keys) = app
        .pool
        .run(move |mut connection| async move {
            let icons = match upload {
                Some(upload) => lookup::icons(&mut connection, upload).await?,
                None => Vec::new(),
            };
            Ok::<_, StoreError>((icons, lookup::keys(&mut connection, id).await?))
        })
        .await
        .map_err(|error| fault::store(&error))?;
    Ok(Profile { account, icons, keys })
}

fn answer(request: &HttpRequest, app: &AppState, profile: &Profile, cache: &'static str) -> HttpResponse {
    let (form, media_type) = negotiate::form(request);
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, cache))
        .insert_header((header::VARY, "Accept"))
        .content_type(media_type)
        .body(person(&app.links, profile, form).to_string())
}
