//! `POST /oauth/token`, `/oauth/introspect` (RFC 7662) and `/oauth/revoke` (RFC 7009).

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde_json::json;

use super::{AppState, bearer, body, fault, session, trace};
use crate::{
    http::fields::Reader,
    session::{EndSession, principal::scope},
    token::{
        TokenSet,
        access::Grant,
        refresh::{self, RevokeToken, RotateToken},
    },
};

/// What is wrong with the request itself, in RFC 6749's words.
fn malformed(problem: Problem) -> Problem {
    match problem.code() {
        Code::InvalidField => {
            let faults = problem.errors().to_vec();
            let problem = Problem::new(Code::Malformed, problem.detail().to_owned()).with_errors(faults);
            fault::oauth(problem, "invalid_request")
        }
        Code::Malformed | Code::UnsupportedMediaType | Code::TooLarge => {
            fault::oauth(problem, "invalid_request")
        }
        _ => problem,
    }
}

async fn fields(request: &HttpRequest, payload: Payload) -> Result<Reader, Problem> {
    Ok(Reader::new(body::json_or_form(request, payload).await.map_err(malformed)?))
}

/// Exchanges a refresh token.
pub async fn token(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = fields(&request, payload).await?;
    let grant = fields.required("grant_type");
    if grant.as_ref().is_some_and(|grant| grant != "refresh_token") {
        let message = "'grant_type' must be refresh_token";
        let problem = Problem::field(Code::Malformed, "grant_type", "unsupported_grant_type", message);
        return Err(fault::oauth(problem, "unsupported_grant_type"));
    }
    let token = fields.required("refresh_token");
    fields.finish().map_err(malformed)?;
    // Asked for first: without keys the old token must stay as it is.
    app.keys.signing().map_err(|error| fault::token(&error.into()))?;
    let rotate = RotateToken { token: token.unwrap_or_default() };
    let rotated = app.perform(rotate, trace::of(&request, &app), fault::refresh).await?;
    let rotated = rotated.ok_or_else(|| fault::refresh(&refresh::RefreshError::Invalid))?;
    let grant = Grant { sub: &rotated.vanity, session: rotated.session.id, scope: &rotated.session.scopes };
    let access = app
        .issuer
        .sign(&app.keys, &grant, app.random.uuid_v4(), app.clock.now())
        .map_err(|error| fault::token(&error))?;
    Ok(session::answer(&TokenSet::new(access, rotated.token.into_text(), rotated.session.scopes)))
}

/// What a token is worth. Whoever asks shows an access token: everybody may ask for their own tokens, `admin` for all.
pub async fn introspect(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, "").await?;
    let mut fields = fields(&request, payload).await?;
    let token = fields.required("token");
    fields.finish().map_err(malformed)?;
    let token = token.unwrap_or_default();
    let may_see_all = principal.scopes.contain(scope::ADMIN);
    let answer = |document: serde_json::Value| {
        Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(document))
    };
    let inactive = || answer(json!({ "active": false }));
    let now = app.clock.now();
    let is_jwt = token.matches('.').count() == 2;
    if is_jwt {
        let Ok(claims) = bearer::claims(&app, &token).await else { return inactive() };
        let found = app
            .pool
            .run(move |mut connection| async move { refresh::session(&mut connection, claims.sid).await })
            .await
            .map_err(|error| fault::store(&error))?;
        let is_own = found.as_ref().is_some_and(|session| session.account == principal.account.id);
        if found.is_none_or(|session| session.ended_at.is_some()) || !(is_own || may_see_all) {
            return inactive();
        }
        return answer(json!({
            "active": true, "token_type": "Bearer", "scope": claims.scope, "sub": claims.sub, "username": claims.sub,
            "iss": app.issuer.issuer, "aud": claims.aud, "iat": claims.iat, "exp": claims.exp, "jti": claims.jti,
            "sid": claims.sid,
        }));
    }
    let found = app
        .pool
        .run(move |mut connection| async move { refresh::find(&mut connection, &token).await })
        .await
        .map_err(|error| fault::store(&error))?;
    let Some((row, session)) = found else { return inactive() };
    let is_live = row.expires_at > now && row.used_at.is_none() && session.ended_at.is_none();
    if !is_live || !(session.account == principal.account.id || may_see_all) {
        return inactive();
    }
    answer(json!({
        "active": true, "token_type": "refresh_token", "scope": session.scopes, "iss": app.issuer.issuer,
        "iat": row.issued_at.timestamp(), "exp": row.expires_at.timestamp(), "sid": session.id,
    }))
}

/// Ends the session of a token: of a refresh token or an access token. What is not known is as good as ended.
pub async fn revoke(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = fields(&request, payload).await?;
    let token = fields.required("token");
    fields.finish().map_err(malformed)?;
    let token = token.unwrap_or_default();
    let trace = trace::of(&request, &app);
    if token.matches('.').count() == 2 {
        match bearer::claims(&app, &token).await {
            Ok(claims) => {
                let found =
                    app.pool
                        .run(move |mut connection| async move {
                            refresh::session(&mut connection, claims.sid).await
                        })
                        .await
                        .map_err(|error| fault::store(&error))?;
                if let Some(session) = found {
                    let end = EndSession { account: session.account, session: session.id };
                    app.perform(end, trace, fault::store).await?;
                }
            }
            Err(problem) if problem.code() == Code::InvalidToken => {}
            Err(problem) => return Err(problem),
        }
    } else {
        app.perform(RevokeToken { token }, trace, fault::store).await?;
    }
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).finish())
}
