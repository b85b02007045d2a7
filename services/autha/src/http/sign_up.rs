//! `POST /create`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use orrery_actors::web::problem::Problem;
use orrery_schemas::{ids::AccountId, problems::Code};
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{ACTOR_LIMIT, Desk, body, fault, trace};
use crate::{
    account::{
        actor::RegisterAccount,
        fields::{Reader, Vanity},
        register::{self, Kept, RegisterError, Registered, Registration, Repeatable},
    },
    password::Hashed,
    token::{TokenSet, refresh::RefreshToken},
};

/// The largest `Idempotency-Key`.
const MAX_KEY: usize = 255;

struct SignUp {
    vanity: Vanity,
    email: String,
    password: Zeroizing<String>,
    locale: String,
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
    desk: Data<Desk>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let fields = body::json(&request, payload).await?;
    let sign_up = read(&desk, Reader::new(fields))?;
    let key = idempotency_key(&request, &desk, &sign_up)?;

    if let Some(sealed) = before(&desk, key.clone(), &sign_up).await? {
        return answered(&desk, &sealed, key.as_ref());
    }

    let inputs = vec![sign_up.vanity.display.clone(), sign_up.email.clone()];
    let hashed = desk
        .passwords
        .hash(sign_up.password.clone(), inputs, desk.config.password_score)
        .await
        .map_err(|error| fault::pool(&error))?;
    let password_hash = match hashed {
        Hashed::Phc(phc) => phc,
        Hashed::Weak(advice) => {
            let message = format!("'password' is too easily guessed. {advice}");
            return Err(Problem::field(Code::InvalidField, "password", "weak_password", message.trim()));
        }
    };

    let now = desk.clock.now();
    let access = desk
        .issuer
        .sign(&desk.keys, &sign_up.vanity.key, desk.random.uuid_v4(), now)
        .map_err(|error| fault::token(&error))?;
    let refresh = RefreshToken::random(&desk.random);
    let tokens = TokenSet::new(access, refresh.as_text().to_owned());
    let answer = serde_json::to_string(&tokens)
        .map_err(|_| Problem::new(Code::Internal, "no answer could be made"))?;
    let repeatable = match &key {
        None => None,
        Some(key) => Some(Repeatable {
            key_hash: key.key_hash.clone(),
            request: key.request.clone(),
            answer: desk
                .vault
                .answers
                .seal(answer.as_bytes(), &hex::encode(&key.key_hash))
                .map_err(|error| fault::register(&error.into()))?,
        }),
    };
    let registration = Registration {
        account: AccountId(desk.random.uuid_v7(&desk.clock)),
        vanity: sign_up.vanity.key.clone(),
        username: sign_up.vanity.display.clone(),
        email: sign_up.email.clone(),
        password_hash,
        locale: sign_up.locale.clone(),
        refresh,
        family: desk.random.uuid_v4(),
        trace: trace::of(&request, &desk),
        repeatable,
        now,
    };
    let registered = desk
        .accounts
        .send(RegisterAccount(registration), ACTOR_LIMIT)
        .await
        .map_err(|error| fault::send(&error))?;
    match registered {
        Ok(Registered::Created) => Ok(created(answer)),
        Ok(Registered::Repeated(sealed)) => answered(&desk, &sealed, key.as_ref()),
        // The same request at once: the other one was first, and its answer is there by now.
        Err(error @ (RegisterError::VanityTaken | RegisterError::EmailTaken)) if key.is_some() => {
            match kept(&desk, key.clone()).await? {
                Some(sealed) => answered(&desk, &sealed, key.as_ref()),
                None => Err(fault::register(&error)),
            }
        }
        Err(error) => Err(fault::register(&error)),
    }
}

fn read(desk: &Desk, mut fields: Reader) -> Result<SignUp, Problem> {
    let vanity = fields.vanity("id");
    let email = fields.email("email");
    let password = fields.password("password");
    let locale = fields.locale("locale");
    let invite = fields.optional("invite").unwrap_or_default();
    let invited = desk.config.invites.is_empty()
        || desk
            .config
            .invites
            .iter()
            .any(|code| bool::from(code.expose_secret().as_bytes().ct_eq(invite.as_bytes())));
    if !invited {
        fields.fault("invite", "invalid_invite", "'invite' must be a valid invite; ask somebody who has one");
    }
    fields.finish()?;
    match (vanity, email, password, locale) {
        (Some(vanity), Some(email), Some(password), Some(locale)) => {
            Ok(SignUp { vanity, email, password, locale })
        }
        _ => Err(Problem::new(Code::InvalidField, "a field is missing")),
    }
}

fn idempotency_key(request: &HttpRequest, desk: &Desk, sign_up: &SignUp) -> Result<Option<Key>, Problem> {
    let Some(value) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    let text = value.as_bytes();
    if text.is_empty() || text.len() > MAX_KEY || !text.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        let message = format!("'Idempotency-Key' must be 1 to {MAX_KEY} printable ASCII characters");
        return Err(Problem::field(Code::Malformed, "Idempotency-Key", "invalid_key", message));
    }
    let mac = |parts: &[&[u8]]| {
        desk.vault.answers.mac(&parts.join(&0)).map_err(|error| fault::register(&error.into()))
    };
    let key_hash = mac(&[b"key", text])?;
    let request = mac(&[
        b"request",
        sign_up.vanity.display.as_bytes(),
        sign_up.email.as_bytes(),
        sign_up.password.as_bytes(),
        sign_up.locale.as_bytes(),
    ])?;
    Ok(Some(Key { key_hash, request }))
}

/// What can be answered before the password is hashed: a repeated request, a taken name.
async fn before(desk: &Desk, key: Option<Key>, sign_up: &SignUp) -> Result<Option<String>, Problem> {
    if let Some(sealed) = kept(desk, key.clone()).await? {
        return Ok(Some(sealed));
    }
    let (vanity, hashes) = (sign_up.vanity.key.clone(), desk.vault.email.macs(sign_up.email.as_bytes()));
    let free =
        desk.pool
            .run(move |mut connection| async move {
                register::check_free(&mut connection, &vanity, &hashes).await
            })
            .await;
    match free {
        Ok(()) => Ok(None),
        Err(error) => match kept(desk, key).await? {
            Some(sealed) => Ok(Some(sealed)),
            None => Err(fault::register(&error)),
        },
    }
}

async fn kept(desk: &Desk, key: Option<Key>) -> Result<Option<String>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let kept = desk
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

fn answered(desk: &Desk, sealed: &str, key: Option<&Key>) -> Result<HttpResponse, Problem> {
    let owner = key.map(|key| hex::encode(&key.key_hash)).unwrap_or_default();
    let plain = desk.vault.answers.open(sealed, &owner).map_err(|error| fault::register(&error.into()))?;
    Ok(created(String::from_utf8_lossy(&plain).into_owned()))
}

fn created(answer: String) -> HttpResponse {
    HttpResponse::Created()
        .content_type("application/json")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(answer)
}
