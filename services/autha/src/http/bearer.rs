//! Who is asking: the account of the bearer token (RFC 6750).

use actix_web::{HttpRequest, http::header};
use orrery_actors::web::problem::Problem;
use orrery_schemas::problems::Code;

use super::{Desk, fault};
use crate::{
    account::{
        fields::Vanity,
        lookup::{self, Account},
    },
    token::access::TokenError,
};

/// The account that the token is of.
///
/// # Errors
/// 401 without a valid token or account, 503 while the database is away.
pub async fn account(request: &HttpRequest, desk: &Desk) -> Result<Account, Problem> {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| {
            Problem::new(Code::InvalidToken, "send the access token as 'Authorization: Bearer ...'")
        })?;
    let claims =
        desk.issuer.verify(&desk.keys, token, desk.clock.now()).map_err(|error| fault::token(&error))?;
    // What nobody can be called is not asked for: PostgreSQL refuses a NUL.
    let vanity = Vanity::parse(&claims.sub).ok_or_else(|| fault::token(&TokenError::Invalid))?;
    let found = desk
        .pool
        .run(move |mut connection| async move { lookup::by_vanity(&mut connection, &vanity.key).await })
        .await
        .map_err(|error| fault::store(&error))?;
    found.filter(|account| account.deleted_at.is_none()).ok_or_else(|| {
        Problem::new(Code::InvalidToken, "the account of this access token is not there any more")
    })
}
