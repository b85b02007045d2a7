//! `POST /partners/token`: the client credentials grant (RFC 6749, 4.4). Credentials come as HTTP Basic or in the form.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use orrery_schemas::problems::Code;
use orrery_store::StoreError;
use orrery_web::problem::Problem;
use percent_encoding::percent_decode_str;
use serde_json::json;
use url::form_urlencoded;

use super::{AppState, body, fault};
use crate::{
    records::{keys, partners},
    token::{self, Claims},
};

struct Form {
    grant: Option<String>,
    id: Option<String>,
    secret: Option<String>,
    scope: Option<String>,
}

/// Gives an access token.
pub async fn token(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let form = form(&request, payload).await?;
    if form.grant.as_deref() != Some("client_credentials") {
        let detail = "grant_type must be client_credentials";
        return Err(oauth(Problem::new(Code::Malformed, detail), "unsupported_grant_type"));
    }
    let wrong = || {
        let detail = "the client's id or secret is not right, or the client is disabled";
        oauth(Problem::new(Code::InvalidCredentials, detail).challenge("Basic"), "invalid_client")
    };
    let (id, secret) = basic(&request)?.or_else(|| form.id.zip(form.secret)).ok_or_else(wrong)?;
    let found = app
        .pool
        .run(move |mut connection| async move {
            // Two looks, no join (decision 23).
            let Some(owner) = keys::owner(&mut connection, &secret).await? else { return Ok(None) };
            let partner = partners::by_id(&mut connection, owner.partner).await?;
            Ok::<_, StoreError>(partner.map(|partner| (owner, partner)))
        })
        .await
        .map_err(|error| fault::store(&error))?;
    let (owner, partner) =
        found.filter(|(_, partner)| partner.name == id && partner.disabled_at.is_none()).ok_or_else(wrong)?;
    let scope = token::granted(form.scope.as_deref(), !partner.publishes.is_empty(), partner.is_operator);
    let scope = scope.map_err(|refused| {
        let detail = format!("this client may not have the scope {refused}");
        oauth(Problem::field(Code::Malformed, "scope", "invalid", detail), "invalid_scope")
    })?;
    let lifetime = app.config.token_lifetime;
    let claims = Claims {
        partner: partner.id,
        key: owner.id,
        scope: scope.clone(),
        until: token::until(app.clock.now(), lifetime),
    };
    let token = token::issue(&app.vault.tokens, &claims).map_err(|error| fault::internal(&error))?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({
        "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs(), "scope": scope,
    })))
}

async fn form(request: &HttpRequest, payload: Payload) -> Result<Form, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let detail = "send a form, with Content-Type: application/x-www-form-urlencoded";
        let problem = Problem::field(Code::UnsupportedMediaType, "Content-Type", "unsupported", detail);
        return Err(oauth(problem, "invalid_request"));
    }
    let bytes = body::read(payload, body::SMALL).await?;
    let mut form = Form { grant: None, id: None, secret: None, scope: None };
    for (name, value) in form_urlencoded::parse(&bytes) {
        let field = match &*name {
            "grant_type" => &mut form.grant,
            "client_id" => &mut form.id,
            "client_secret" => &mut form.secret,
            "scope" => &mut form.scope,
            _ => continue,
        };
        if field.replace(value.into_owned()).is_some() {
            let detail = "a parameter is there twice; send each once";
            return Err(oauth(Problem::new(Code::Malformed, detail), "invalid_request"));
        }
    }
    Ok(form)
}

/// Credentials as HTTP Basic, each percent-encoded as RFC 6749, 2.3.1 wants it.
fn basic(request: &HttpRequest) -> Result<Option<(String, String)>, Problem> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else { return Ok(None) };
    let read = || {
        let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(BASE64.decode(text.trim()).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
        Some((decoded(id)?, decoded(secret)?))
    };
    let detail = "the Authorization header is no HTTP Basic";
    read().map(Some).ok_or_else(|| oauth(Problem::new(Code::Malformed, detail), "invalid_request"))
}

/// A problem in RFC 6749's words.
fn oauth(problem: Problem, error: &'static str) -> Problem {
    let description = problem.detail().replace('"', "'");
    problem.with_member("error", error).with_member("error_description", description)
}
