//! What a mail asks for and what its link answers: verification, recovery, change of address. Asking gives the same answer, known or not.

use std::time::{Duration, Instant};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use orrery_schemas::{address::Address, problems::Code};
use orrery_web::problem::Problem;
use serde_json::json;

use super::{AppState, bearer, body, caller, fault, limit, sign_up::new_password, trace};
use crate::{
    account::{
        address::{AnswerMail, AskAgain, TellOwner},
        recover::{self, AskForRecovery, Recover},
    },
    challenge::Purpose,
    http::fields::Reader,
    session::principal::scope,
    throttle::Attempt,
};

/// When a request for a mail is answered.
const ANSWER_AFTER: Duration = Duration::from_millis(300);
/// The longest secret that is looked for.
const LONGEST_SECRET: usize = 128;

async fn read(request: &HttpRequest, payload: Payload) -> Result<Reader, Problem> {
    Ok(Reader::new(body::json(request, payload).await?))
}

fn secret(fields: &mut Reader) -> String {
    let secret = fields.required("token").unwrap_or_default();
    if secret.len() > LONGEST_SECRET {
        fields.fault(
            "token",
            "invalid_token",
            "'token' must be what stands after #token= in the link of the mail",
        );
    }
    secret
}

fn sent() -> HttpResponse {
    HttpResponse::Accepted()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({ "status": "sent_if_known" }))
}

/// Asks for a mail that sets a new password.
pub async fn ask_recovery(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    ask(request, app, payload, |email_hashes| Asked::Recovery(AskForRecovery { email_hashes })).await
}

/// Asks for the mail that verifies an address once more.
pub async fn ask_verification(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    ask(request, app, payload, |email_hashes| Asked::Verification(TellOwner { email_hashes })).await
}

enum Asked {
    Recovery(AskForRecovery),
    Verification(TellOwner),
}

/// Answers after a fixed time, which is longer than the work takes: it tells nothing of who is known.
async fn ask(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
    asked: fn(Vec<Vec<u8>>) -> Asked,
) -> Result<HttpResponse, Problem> {
    let begun = Instant::now();
    let mut fields = read(&request, payload).await?;
    let email = fields.required("email");
    fields.finish()?;
    limit::spend(&app, Attempt::Request, caller::address(&request, &app)).await?;
    // Not to be an address, or to have got mails enough, is told by neither words nor time.
    let address = Address::parse(&email.unwrap_or_default(), true).ok();
    let address = match address {
        Some(address) if limit::has_room(&app, Attempt::Mail(address.normal()), None).await? => address,
        _ => {
            tokio::time::sleep(ANSWER_AFTER.saturating_sub(begun.elapsed())).await;
            return Ok(sent());
        }
    };
    let asked = asked(app.vault.email.macs(address.normal().as_bytes()));
    let trace = trace::of(&request, &app);
    match asked {
        Asked::Recovery(change) => app.perform(change, trace, fault::change).await?,
        Asked::Verification(change) => app.perform(change, trace, fault::change).await?,
    }
    tokio::time::sleep(ANSWER_AFTER.saturating_sub(begun.elapsed())).await;
    Ok(sent())
}

/// Asks for the mail that verifies the caller's address.
pub async fn ask_own_verification(
    request: HttpRequest,
    app: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, scope::WRITE_ACCOUNT).await?;
    let mailbox = principal.account.id.to_string();
    limit::spend(&app, Attempt::Mail(&mailbox), caller::address(&request, &app)).await?;
    let change = AskAgain { account: principal.account.id };
    app.perform(change, trace::of(&request, &app), fault::change).await?;
    Ok(sent())
}

/// Sets a new password by the link of a mail.
pub async fn recover(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = read(&request, payload).await?;
    let secret = secret(&mut fields);
    let password = fields.password("password");
    let code = fields.optional("totpCode");
    fields.finish()?;
    let from = caller::address(&request, &app);
    limit::check(&app, Attempt::Secret, from).await?;
    let password = password.ok_or_else(|| Problem::new(Code::InvalidField, "'password' is missing"))?;
    let (looked, now) = (secret.clone(), app.clock.now());
    let owner = app
        .pool
        .run(move |mut connection| async move { recover::owner(&mut connection, &looked, now).await })
        .await
        .map_err(|error| fault::store(&error))?;
    // No hash is made for a link that leads nowhere.
    let Some(owner) = owner else {
        limit::failed(&app, Attempt::Secret, from).await?;
        return Err(fault::change(&crate::account::error::ChangeError::Challenge));
    };
    // A code is guessed with the link in hand: it is counted as if with the password.
    let counted = owner.to_string();
    limit::check(&app, Attempt::Credentials(&counted), from).await?;
    let password_hash = new_password(&app, "password", password, Vec::new()).await?;
    let change = Recover { secret, password_hash, code, device: caller::device(&request) };
    let done = app.perform(change, trace::of(&request, &app), fault::change).await;
    if done.as_ref().is_err_and(|problem| problem.code() == Code::InvalidCredentials) {
        limit::failed(&app, Attempt::Credentials(&counted), from).await?;
    }
    done?;
    Ok(HttpResponse::NoContent().finish())
}

/// Says that the mailbox is theirs.
pub async fn verify(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    answer(&request, &app, payload, Purpose::Verify).await
}

/// Says that the new mailbox is theirs: it becomes the account's.
pub async fn confirm(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    answer(&request, &app, payload, Purpose::ChangeAddress).await
}

/// Puts the former address back.
pub async fn take_back(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    answer(&request, &app, payload, Purpose::TakeBack).await
}

async fn answer(
    request: &HttpRequest,
    app: &AppState,
    payload: Payload,
    purpose: Purpose,
) -> Result<HttpResponse, Problem> {
    let mut fields = read(request, payload).await?;
    let secret = secret(&mut fields);
    fields.finish()?;
    let from = caller::address(request, app);
    limit::check(app, Attempt::Secret, from).await?;
    let done = app.perform(AnswerMail { secret, purpose }, trace::of(request, app), fault::change).await;
    if done.as_ref().is_err_and(|problem| problem.code() == Code::InvalidField) {
        limit::failed(app, Attempt::Secret, from).await?;
    }
    done?;
    Ok(HttpResponse::NoContent().finish())
}
