//! Who is asking: the one place where a bearer token (RFC 6750) becomes a `Principal`.

use actix_web::{HttpRequest, http::header};
use orrery_schemas::problems::Code;
use orrery_store::StoreError;
use orrery_web::problem::Problem;

use super::{AppState, fault};
use crate::{
    account::lookup,
    key::KeyError,
    session::principal::{Principal, Scopes},
    token::{
        access::{Claims, TokenError},
        refresh,
    },
};

/// The principal of a request, whose token must have `scope`.
///
/// # Errors
/// 401 without a valid token, session or account, 403 without the scope, 503 while the database is away.
pub async fn principal(
    request: &HttpRequest,
    app: &AppState,
    scope: &'static str,
) -> Result<Principal, Problem> {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| {
            let detail = "send the access token as 'Authorization: Bearer ...'";
            Problem::new(Code::InvalidToken, detail).challenge("Bearer")
        })?;
    let claims = claims(app, token).await?;
    let scopes = Scopes(claims.scope);
    let found = app
        .pool
        .run(move |mut connection| async move {
            // Two looks, no join (decision 23).
            let Some(session) = refresh::session(&mut connection, claims.sid).await? else { return Ok(None) };
            let account = lookup::by_id(&mut connection, session.account).await?;
            Ok::<_, StoreError>(account.map(|account| (session, account)))
        })
        .await
        .map_err(|error| fault::store(&error))?;
    let ended =
        || Problem::new(Code::InvalidToken, "the session of this access token has ended; log in again");
    let (session, account) = found.ok_or_else(ended)?;
    if session.ended_at.is_some() || account.vanity != claims.sub {
        return Err(ended());
    }
    if account.purge_at.is_some() || account.suspended_at.is_some() {
        let detail = "the account of this access token is not there any more";
        return Err(Problem::new(Code::InvalidToken, detail));
    }
    if !scopes.contain(scope) {
        return Err(insufficient(scope));
    }
    Ok(Principal {
        account,
        session: session.id,
        scopes,
        methods: session.methods,
        authenticated_at: session.authenticated_at,
    })
}

/// The token has not the scope that it needs.
pub fn insufficient(scope: &str) -> Problem {
    let detail = format!("this access token may not do that; get one with the scope {scope}");
    let challenge = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
    Problem::new(Code::Forbidden, detail).challenge(challenge)
}

/// The claims of a valid token. A key that is not here may have been made by another replica just now.
///
/// # Errors
/// 401 for a token that is not valid, 503 while the database is away.
pub async fn claims(app: &AppState, token: &str) -> Result<Claims, Problem> {
    let now = app.clock.now();
    match app.issuer.verify(&app.keys, token, now) {
        Err(TokenError::UnknownKey) => {}
        verified => return verified.map_err(|error| fault::token(&error)),
    }
    let (keys, vault) = (app.keys.clone(), std::sync::Arc::clone(&app.vault));
    app.pool
        .run(move |mut connection| async move { keys.look_again(&mut connection, &vault.signing_keys).await })
        .await
        .map_err(|error: KeyError| fault::key(&error))?;
    app.issuer.verify(&app.keys, token, now).map_err(|error| fault::token(&error))
}
