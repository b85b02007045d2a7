//! `POST /login` and `POST /oauth/token`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use orrery_actors::web::problem::Problem;
use orrery_schemas::{ids::AccountId, problems::Code};

use super::{ACTOR_LIMIT, Desk, body, fault};
use crate::{
    account::{
        actor::{OpenSession, RotateToken},
        fields::{Reader, Vanity, normalise_email},
        lookup::{self, Credentials},
    },
    token::{TokenSet, refresh::RefreshToken},
};

/// Who logs in: a name or an address that could be one.
enum Login {
    Vanity(String),
    Email(String),
    /// Nobody can be called so; it takes as long as a wrong password.
    Nobody,
}

/// Begins a session.
pub async fn log_in(
    request: HttpRequest,
    desk: Data<Desk>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Reader::new(body::json(&request, payload).await?);
    let email = fields.optional("email");
    let id = fields.optional("id");
    let password = fields.password("password");
    if email.is_none() && id.is_none() {
        fields.fault("email", "missing", "'email' or 'id' must say who logs in");
    }
    fields.finish()?;
    let Some(password) = password else {
        return Err(Problem::new(Code::InvalidField, "'password' is missing"));
    };
    let login = match (email, id) {
        (Some(email), _) => normalise_email(&email).map_or(Login::Nobody, Login::Email),
        (None, Some(id)) => Vanity::parse(&id).map_or(Login::Nobody, |vanity| Login::Vanity(vanity.key)),
        (None, None) => Login::Nobody,
    };
    let credentials = find(&desk, login).await?;
    let phc = credentials.as_ref().map(|credentials| credentials.password_hash.clone());
    let right = desk.passwords.verify(password, phc).await.map_err(|error| fault::pool(&error))?;
    let Some(credentials) = credentials.filter(|_| right) else {
        return Err(Problem::new(
            Code::InvalidCredentials,
            "there is no account with this name or address and password",
        ));
    };
    let now = desk.clock.now();
    let access = desk
        .issuer
        .sign(&desk.keys, &credentials.vanity, desk.random.uuid_v4(), now)
        .map_err(|error| fault::token(&error))?;
    let open = OpenSession {
        account: AccountId(credentials.id),
        token: RefreshToken::random(&desk.random),
        family: desk.random.uuid_v4(),
        now,
    };
    let refresh = desk
        .accounts
        .send(open, ACTOR_LIMIT)
        .await
        .map_err(|error| fault::send(&error))?
        .map_err(|error| fault::store(&error))?;
    Ok(tokens(&TokenSet::new(access, refresh)))
}

/// Exchanges a refresh token.
pub async fn token(
    request: HttpRequest,
    desk: Data<Desk>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Reader::new(body::json_or_form(&request, payload).await?);
    let grant = fields.required("grant_type");
    let token = fields.required("refresh_token");
    if grant.is_some_and(|grant| grant != "refresh_token") {
        fields.fault("grant_type", "unsupported_grant_type", "'grant_type' must be refresh_token");
    }
    fields.finish()?;
    let now = desk.clock.now();
    // Asked for first: without keys the old token must stay as it is.
    desk.keys.signing(now).map_err(|error| fault::token(&error.into()))?;
    let rotate = RotateToken { token: token.unwrap_or_default(), now };
    let rotated = desk
        .accounts
        .send(rotate, ACTOR_LIMIT)
        .await
        .map_err(|error| fault::send(&error))?
        .map_err(|error| fault::refresh(&error))?;
    let access = desk
        .issuer
        .sign(&desk.keys, &rotated.vanity, desk.random.uuid_v4(), now)
        .map_err(|error| fault::token(&error))?;
    Ok(tokens(&TokenSet::new(access, rotated.token.into_text())))
}

async fn find(desk: &Desk, login: Login) -> Result<Option<Credentials>, Problem> {
    let found = match login {
        Login::Nobody => return Ok(None),
        Login::Vanity(vanity) => {
            desk.pool
                .run(move |mut connection| async move {
                    lookup::credentials_by_vanity(&mut connection, &vanity).await
                })
                .await
        }
        Login::Email(email) => {
            let hashes = desk.vault.email.macs(email.as_bytes());
            desk.pool
                .run(move |mut connection| async move {
                    lookup::credentials_by_email(&mut connection, &hashes).await
                })
                .await
        }
    };
    found.map_err(|error| fault::store(&error))
}

fn tokens(tokens: &TokenSet) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(tokens)
}
