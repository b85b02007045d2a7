//! `POST /login`, `POST /logout`, and the sessions of somebody.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Payload},
};
use chrono::SecondsFormat;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde_json::json;
use uuid::Uuid;

use super::{AppState, bearer, body, caller, fault, proof, trace};
use crate::{
    credential::proof::Second,
    http::fields::Reader,
    operator,
    session::{
        self, EndSession, EndSessions, NewSession, OpenSession, Opened,
        list::open_device,
        principal::{Scopes, scope},
    },
    token::{TokenSet, access::Grant, refresh::RefreshToken},
};

/// Begins a session.
pub async fn log_in(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Reader::new(body::json(&request, payload).await?);
    let email = fields.optional("email");
    let id = fields.optional("id");
    let password = fields.password("password");
    let code = fields.optional("totpCode");
    let wanted = fields.optional("scope");
    if email.is_none() && id.is_none() {
        fields.fault("email", "missing", "'email' or 'id' must say who logs in");
    }
    fields.finish()?;
    let Some(password) = password else {
        return Err(Problem::new(Code::InvalidField, "'password' is missing"));
    };
    // Asked for first: a code is not used up for a session that cannot begin.
    app.keys.signing().map_err(|error| fault::token(&error.into()))?;
    let who = proof::Who::of(email, id);
    let proven = proof::log_in(&app, who, password, code, caller::address(&request, &app)).await?;
    let device = caller::device(&request);
    let methods = proven.proof.second.methods();
    let wants_admin = wanted.is_some_and(|wanted| Scopes(wanted).contain(scope::ADMIN));
    let scopes = if wants_admin { admin_scopes(&app, &proven).await? } else { scope::DEFAULT.to_owned() };
    let session = begin(&app, &scopes, methods, device.as_deref())?;
    let tokens = tokens_of(&app, &proven.who.vanity, &session)?;
    let open = OpenSession { proof: proven.proof, session, device };
    match app.perform(open, trace::of(&request, &app), fault::change).await? {
        Opened::Session => Ok(answer(&tokens)),
        Opened::Unverified => Err(Problem::field(
            Code::Forbidden,
            "email",
            "unverified",
            "the address was not verified yet: follow the link in the mail, or ask for another one at POST /verify/request",
        )),
    }
}

/// The scopes of an operator, who must be one, and have shown a second factor.
async fn admin_scopes(app: &AppState, proven: &proof::Proven) -> Result<String, Problem> {
    let account = proven.who.id;
    let is_operator = app
        .pool
        .run(move |mut connection| async move { operator::is_operator(&mut connection, account).await })
        .await
        .map_err(|error| fault::store(&error))?;
    if !is_operator {
        return Err(bearer::insufficient(scope::ADMIN));
    }
    if proven.proof.second == Second::NotAsked {
        let message = "the scope admin is given only with a second factor: set TOTP up first";
        return Err(Problem::field(Code::Forbidden, "totpCode", "second_factor_required", message));
    }
    Ok(format!("{} {}", scope::DEFAULT, scope::ADMIN))
}

/// A session that is about to begin.
///
/// # Errors
/// When the device cannot be sealed.
pub fn begin(
    app: &AppState,
    scopes: &str,
    methods: Vec<String>,
    device: Option<&str>,
) -> Result<NewSession, Problem> {
    let id = app.random.uuid_v7(&app.clock);
    let device = device
        .map(|device| app.vault.devices.seal(device.as_bytes(), &id.to_string()))
        .transpose()
        .map_err(|error| fault::seal(&error))?;
    Ok(NewSession {
        id,
        scopes: scopes.to_owned(),
        methods,
        device,
        client: None,
        refresh: RefreshToken::random(&app.random),
    })
}

/// The first tokens of a session.
///
/// # Errors
/// 503 while no signing key is loaded.
pub fn tokens_of(app: &AppState, vanity: &str, session: &NewSession) -> Result<TokenSet, Problem> {
    let grant = Grant { sub: vanity, session: session.id, scope: &session.scopes };
    let access = app
        .issuer
        .sign(&app.keys, &grant, app.random.uuid_v4(), app.clock.now())
        .map_err(|error| fault::token(&error))?;
    Ok(TokenSet::new(access, session.refresh.as_text().to_owned(), session.scopes.clone()))
}

/// An answer with tokens, which nobody may keep.
pub fn answer(tokens: &TokenSet) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(tokens)
}

/// Ends the session of the access token.
pub async fn log_out(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, "").await?;
    let end = EndSession { account: principal.account.id, session: principal.session };
    app.perform(end, trace::of(&request, &app), fault::store).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The sessions of the caller.
pub async fn list(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, scope::READ_ACCOUNT).await?;
    let (account, now) = (principal.account.id, app.clock.now());
    let listed = app
        .pool
        .run(move |mut connection| async move { session::list(&mut connection, account, now).await })
        .await
        .map_err(|error| fault::store(&error))?;
    let time = |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let sessions: Vec<_> = listed
        .into_iter()
        .map(|session| {
            json!({
                "id": session.id,
                "current": session.id == principal.session,
                "device": session.device.and_then(|device| open_device(&app.vault.devices, session.id, &device)),
                "client": session.client,
                "scope": session.scopes,
                "methods": session.methods,
                "authenticatedAt": time(session.authenticated_at),
                "createdAt": time(session.created_at),
                "usedAt": time(session.used_at),
            })
        })
        .collect();
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .json(json!({ "sessions": sessions })))
}

/// Ends one session of the caller.
pub async fn end(
    request: HttpRequest,
    app: Data<AppState>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, scope::WRITE_ACCOUNT).await?;
    let absent = || Problem::new(Code::NotFound, "you have no such session");
    let session: Uuid = id.parse().map_err(|_| absent())?;
    let end = EndSession { account: principal.account.id, session };
    let ended = app.perform(end, trace::of(&request, &app), fault::store).await?;
    if ended { Ok(HttpResponse::NoContent().finish()) } else { Err(absent()) }
}

/// Ends all sessions of the caller.
pub async fn end_all(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, scope::WRITE_ACCOUNT).await?;
    let end = EndSessions { account: principal.account.id, keep: None };
    app.perform(end, trace::of(&request, &app), fault::store).await?;
    Ok(HttpResponse::NoContent().finish())
}
