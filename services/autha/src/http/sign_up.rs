//! `POST /create`.

use std::time::{Duration, Instant};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use orrery_schemas::{address::Address, ids::AccountId, problems::Code};
use orrery_web::problem::Problem;
use secrecy::ExposeSecret;
use serde_json::json;
use subtle::ConstantTimeEq;

use super::{AppState, body, caller, fault, limit, session, trace};
use crate::{
    account::{
        address::TellOwner,
        register::{self, Kept, RegisterAccount, RegisterError, Registered, Repeatable, Taken},
        vanity::Vanity,
    },
    config::{SignUp as Policy, Verification},
    http::fields::Reader,
    password::{Password, Strength},
    session::{NewSession, principal::scope},
    throttle::Attempt,
};

/// The largest `Idempotency-Key`.
const MAX_KEY: usize = 255;
/// A sign-up that has waited for so long is refused before it has an effect: whoever asked has given up, or will before the answer is there.
const PATIENCE: Duration = Duration::from_secs(8);

struct SignUp {
    vanity: Vanity,
    address: Address,
    password: Password,
    locale: String,
    invite: Option<String>,
}

/// An `Idempotency-Key` and what it was sent with, both hashed.
#[derive(Clone)]
struct Key {
    key_hash: Vec<u8>,
    request: Vec<u8>,
}

/// Makes an account and its first session.
pub async fn create(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let begun = Instant::now();
    let fields = body::json(&request, payload).await?;
    let sign_up = read(&app, Reader::new(fields))?;
    let key = idempotency_key(&request, &app, &sign_up)?;
    if let Some(sealed) = kept(&app, key.clone()).await? {
        return answered(&app, &sealed, key.as_ref());
    }
    limit::spend(&app, Attempt::Request, caller::address(&request, &app)).await?;
    if let Some(sealed) = refuse_taken(&app, key.clone(), &sign_up).await? {
        return answered(&app, &sealed, key.as_ref());
    }
    let password_hash = hash(&app, &sign_up).await?;
    if begun.elapsed() > PATIENCE {
        return Err(fault::unavailable("too many people are signing up right now; no account was made"));
    }

    let account = AccountId(app.random.uuid_v7(&app.clock));
    let device = caller::device(&request);
    let (answer, session) = if app.config.verification == Verification::Require {
        (json!({ "status": "verification_sent" }).to_string(), None)
    } else {
        let session = session::begin(&app, scope::DEFAULT, vec!["pwd".to_owned()], device.as_deref())?;
        let tokens = session::tokens_of(&app, &sign_up.vanity.key, &session)?;
        let answer = serde_json::to_string(&tokens)
            .map_err(|_| Problem::new(Code::Internal, "no answer could be made"))?;
        (answer, Some(session))
    };
    let repeatable = repeatable(&app, key.as_ref(), &answer)?;
    let change = registration(account, &sign_up, password_hash, session, repeatable);
    let trace = trace::of(&request, &app);
    let registered = app
        .accounts
        .send(crate::account::change::Perform { change, trace }, super::ACTOR_LIMIT)
        .await
        .map_err(|error| fault::send(&error))?;
    match registered {
        Ok(Registered::Created) => Ok(created(&app, answer)),
        Ok(Registered::Repeated(sealed)) => answered(&app, &sealed, key.as_ref()),
        // Somebody was first just now: the same request, whose answer is there by then, or another one.
        Err(RegisterError::Taken(_)) => match refuse_taken(&app, key.clone(), &sign_up).await? {
            Some(sealed) => answered(&app, &sealed, key.as_ref()),
            // Only the address, where the answer may not tell.
            None => {
                tell_owner(&app, &request, &sign_up).await?;
                Ok(created(&app, answer))
            }
        },
        Err(error) => Err(fault::register(&error)),
    }
}

fn registration(
    account: AccountId,
    sign_up: &SignUp,
    password_hash: String,
    session: Option<NewSession>,
    repeatable: Option<Repeatable>,
) -> RegisterAccount {
    RegisterAccount {
        account,
        vanity: sign_up.vanity.key.clone(),
        username: sign_up.vanity.display.clone(),
        address: sign_up.address.clone(),
        password_hash,
        locale: sign_up.locale.clone(),
        session,
        invite: sign_up.invite.clone(),
        repeatable,
    }
}

fn read(app: &AppState, mut fields: Reader) -> Result<SignUp, Problem> {
    let vanity = fields.vanity("id", &app.config.reserved_names);
    let address = fields.email("email", app.config.international_addresses);
    let password = fields.password("password");
    let locale = fields.locale("locale");
    let invite = fields.optional("invite");
    let invite = match app.config.sign_up() {
        Policy::Open => None,
        Policy::Closed => {
            let detail = "this instance takes no sign-ups; ask its operator for an account";
            return Err(Problem::new(Code::Forbidden, detail));
        }
        Policy::Invite => {
            let invite = invite.unwrap_or_default();
            if invite.is_empty() {
                let message = "'invite' must be a valid invite; ask somebody who has one";
                fields.fault("invite", "invalid_invite", message);
            }
            let is_configured = app
                .config
                .invites
                .iter()
                .any(|code| bool::from(code.expose_secret().as_bytes().ct_eq(invite.as_bytes())));
            // The others are looked up, and used up, when the account is made.
            (!is_configured).then_some(invite)
        }
    };
    fields.finish()?;
    match (vanity, address, password, locale) {
        (Some(vanity), Some(address), Some(password), Some(locale)) => {
            Ok(SignUp { vanity, address, password, locale, invite })
        }
        _ => Err(Problem::new(Code::InvalidField, "a field is missing")),
    }
}

/// Scores the password on a thread that no login waits for, then hashes it.
async fn hash(app: &AppState, sign_up: &SignUp) -> Result<String, Problem> {
    let inputs = vec![sign_up.vanity.display.clone(), sign_up.address.typed().to_owned()];
    new_password(app, "password", sign_up.password.clone(), inputs).await
}

/// The hash of a new password, if that is strong enough.
///
/// # Errors
/// 422 with what would make it better, 503 where too many wait.
pub async fn new_password(
    app: &AppState,
    field: &str,
    password: Password,
    inputs: Vec<String>,
) -> Result<String, Problem> {
    let least = app.config.password_score;
    let strength =
        app.passwords.score(password.clone(), inputs, least).await.map_err(|error| fault::pool(&error))?;
    if let Strength::Weak(advice) = strength {
        let message = format!("'{field}' is too easily guessed. {advice}");
        return Err(Problem::field(Code::InvalidField, field, "weak_password", message.trim()));
    }
    app.passwords.hash(password).await.map_err(|error| fault::pool(&error))
}

fn idempotency_key(request: &HttpRequest, app: &AppState, sign_up: &SignUp) -> Result<Option<Key>, Problem> {
    let Some(value) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    let text = value.as_bytes();
    if text.is_empty() || text.len() > MAX_KEY || !text.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        let message = format!("'Idempotency-Key' must be 1 to {MAX_KEY} printable ASCII characters");
        return Err(Problem::field(Code::Malformed, "Idempotency-Key", "invalid_key", message));
    }
    let mac = |parts: &[&[u8]]| app.vault.answers.mac(&parts.join(&0)).map_err(|error| fault::seal(&error));
    let key_hash = mac(&[b"key", text])?;
    let request = mac(&[
        b"request",
        sign_up.vanity.display.as_bytes(),
        sign_up.address.typed().as_bytes(),
        sign_up.password.as_bytes(),
        sign_up.locale.as_bytes(),
    ])?;
    Ok(Some(Key { key_hash, request }))
}

fn repeatable(app: &AppState, key: Option<&Key>, answer: &str) -> Result<Option<Repeatable>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let sealed = app
        .vault
        .answers
        .seal(answer.as_bytes(), &hex::encode(&key.key_hash))
        .map_err(|error| fault::seal(&error))?;
    Ok(Some(Repeatable { key_hash: key.key_hash.clone(), request: key.request.clone(), answer: sealed }))
}

/// Refuses what is somebody's, both name and address at once, unless this very request was answered before. Where addresses are verified first, an
/// address that is taken is not told: its owner is, by mail, after the same work.
async fn refuse_taken(app: &AppState, key: Option<Key>, sign_up: &SignUp) -> Result<Option<String>, Problem> {
    let (vanity, now) = (sign_up.vanity.key.clone(), app.clock.now());
    let hashes = app.vault.email.macs(sign_up.address.normal().as_bytes());
    let mut taken =
        app.pool
            .run(move |mut connection| async move {
                register::taken(&mut connection, &vanity, &hashes, now).await
            })
            .await
            .map_err(|error| fault::store(&error))?;
    if app.config.verification == Verification::Require {
        taken.email = false;
    }
    if taken == Taken::default() {
        return Ok(None);
    }
    match kept(app, key).await? {
        Some(sealed) => Ok(Some(sealed)),
        None => Err(fault::taken(taken)),
    }
}

async fn tell_owner(app: &AppState, request: &HttpRequest, sign_up: &SignUp) -> Result<(), Problem> {
    let mailbox = Attempt::Mail(sign_up.address.normal());
    if !limit::has_room(app, mailbox, None).await? {
        return Ok(());
    }
    let email_hashes = app.vault.email.macs(sign_up.address.normal().as_bytes());
    app.perform(TellOwner { email_hashes }, trace::of(request, app), fault::change).await
}

async fn kept(app: &AppState, key: Option<Key>) -> Result<Option<String>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let kept = app
        .pool
        .run(move |mut connection| async move {
            register::kept(&mut connection, &key.key_hash, &key.request).await
        })
        .await
        .map_err(|error| fault::store(&error))?;
    match kept {
        Kept::Nothing => Ok(None),
        Kept::Answer(sealed) => Ok(Some(sealed)),
        Kept::OtherRequest => Err(fault::register(&RegisterError::OtherRequest)),
    }
}

fn answered(app: &AppState, sealed: &str, key: Option<&Key>) -> Result<HttpResponse, Problem> {
    let owner = key.map(|key| hex::encode(&key.key_hash)).unwrap_or_default();
    let plain = app.vault.answers.open(sealed, &owner).map_err(|error| fault::seal(&error))?;
    Ok(created(app, String::from_utf8_lossy(&plain).into_owned()))
}

fn created(app: &AppState, answer: String) -> HttpResponse {
    let mut response = match app.config.verification {
        Verification::Require => HttpResponse::Accepted(),
        Verification::Off | Verification::Ask => HttpResponse::Created(),
    };
    response.content_type("application/json").insert_header((header::CACHE_CONTROL, "no-store")).body(answer)
}
