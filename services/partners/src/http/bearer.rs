//! Who is asking: the one place where an access token of a partner becomes the partner.

use std::sync::Arc;

use actix_web::{HttpRequest, http::header};
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;

use super::{AppState, directory::Known, fault};
use crate::token;

/// The partner of a request, whose token must have `scope`.
///
/// # Errors
/// 401 without a valid token, 403 without the scope, 503 while the database is away.
pub async fn partner(
    request: &HttpRequest,
    app: &AppState,
    scope: &'static str,
) -> Result<Arc<Known>, Problem> {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| {
            let detail = "send an access token of /partners/token as 'Authorization: Bearer ...'";
            Problem::new(Code::InvalidToken, detail).challenge("Bearer")
        })?;
    let invalid =
        || Problem::new(Code::InvalidToken, "the access token is not valid (any more); get another one");
    let claims = token::read(&app.vault.tokens, token, app.clock.now()).ok_or_else(invalid)?;
    let found = app.directory.find(claims.partner).await.map_err(|error| fault::store(&error))?;
    let known = found.filter(|known| known.keys.contains(&claims.key)).ok_or_else(invalid)?;
    if !claims.has(scope) {
        let detail = format!("this access token may not do that; get one with the scope {scope}");
        let challenge = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
        return Err(Problem::new(Code::Forbidden, detail).challenge(challenge));
    }
    Ok(known)
}
