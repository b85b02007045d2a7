//! `PATCH` and `DELETE /users/@me`: what people change of their own account.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use chrono::SecondsFormat;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    AppState, bearer, body, caller, fault, limit,
    proof::{self, Credentials},
    sign_up, trace,
};
use crate::{
    account::{
        deletion::DeleteAccount,
        keys::KeyChange,
        update::{LONGEST_NAME, LONGEST_SUMMARY, UpdateAccount, Updated},
    },
    credential::{proof::Proof, public_key::PublicKey, second_factor::FactorChange, totp::TotpSecret},
    http::fields::Reader,
    session::principal::{Principal, scope},
    throttle::Attempt,
};

/// The most keys that one request adds or removes.
const MOST_KEYS: usize = 64;

/// Changes the caller's account; answers with the ids of new keys.
pub async fn patch(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, "").await?;
    let mut fields = Reader::new(body::json(&request, payload).await?);
    let keys = keys(&mut fields);
    let name = name(&mut fields);
    let summary = fields.text("summary", LONGEST_SUMMARY, true);
    let locale = if fields.has("locale") { fields.locale("locale") } else { None };
    let secret = fields.optional("totpSecret");
    let new_password = if fields.has("newPassword") { fields.password("newPassword") } else { None };
    let international = app.config.international_addresses;
    let address = if fields.has("email") { fields.email("email", international) } else { None };
    let is_dangerous = secret.is_some() || new_password.is_some() || address.is_some();
    let mut credentials = if is_dangerous { Credentials::read(&mut fields) } else { Credentials::default() };
    let factor = secret.map(|secret| factor(&app, &mut fields, &secret, credentials.code.as_deref()));
    fields.finish()?;
    let changes_more = name.is_some() || summary.is_some() || locale.is_some() || is_dangerous;
    if !keys.is_empty() {
        require(&principal, scope::WRITE_PUBLIC_KEYS)?;
    }
    if changes_more || keys.is_empty() {
        require(&principal, scope::WRITE_ACCOUNT)?;
    }
    let factor = factor.flatten();
    if matches!(factor, Some(FactorChange::SetUp { .. })) {
        // The code belongs to the secret that is set up; without one before, none is asked for.
        credentials.code = None;
    }
    let proof = credentials.prove(&app, &request, &principal.account).await?;
    if let Some(address) = &address {
        limit::spend(&app, Attempt::Mail(address.normal()), caller::address(&request, &app)).await?;
    }
    let password_hash = match new_password {
        Some(password) => {
            let inputs = vec![principal.account.username.clone(), principal.account.vanity.clone()];
            Some(sign_up::new_password(&app, "newPassword", password, inputs).await?)
        }
        None => None,
    };
    let change = UpdateAccount {
        proof,
        username: name,
        summary,
        locale,
        keys,
        factor,
        password_hash,
        address,
        ..UpdateAccount::of(&principal, caller::device(&request))
    };
    let Updated { keys, .. } = app.perform(change, trace::of(&request, &app), fault::change).await?;
    Ok(told(keys))
}

/// An answer that nobody keeps.
fn told(body: impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}

/// Asks for the caller's account to be deleted.
pub async fn delete(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (principal, proof) = proof::of_body(&request, &app, payload, scope::WRITE_ACCOUNT).await?;
    let change = DeleteAccount { account: principal.account.id, proof: Some(proof) };
    let purge_at = app.perform(change, trace::of(&request, &app), fault::change).await?;
    let until = purge_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    Ok(told(json!({ "status": "deletion_scheduled", "restorableUntil": until })))
}

/// A new TOTP secret, which is nobody's until it is set up.
pub async fn totp_secret(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, scope::WRITE_ACCOUNT).await?;
    let secret = TotpSecret::random(&app.random).to_base32();
    let label = format!("{}:{}", app.config.instance.name, principal.account.vanity);
    let mut url = url::Url::parse("otpauth://totp/").map_err(|error| fault::internal(&error))?;
    url.set_path(&label);
    url.query_pairs_mut().append_pair("secret", &secret).append_pair("issuer", &app.config.instance.name);
    Ok(told(json!({ "totpSecret": secret, "uri": url.as_str() })))
}

/// Sets TOTP up; answers with recovery codes.
pub async fn set_up_totp(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let principal = bearer::principal(&request, &app, scope::WRITE_ACCOUNT).await?;
    let mut fields = Reader::new(body::json(&request, payload).await?);
    let secret = fields.required("totpSecret");
    let credentials = Credentials::read(&mut fields);
    let change = secret.and_then(|secret| factor(&app, &mut fields, &secret, credentials.code.as_deref()));
    fields.finish()?;
    let change = change.ok_or_else(|| Problem::new(Code::InvalidField, "'totpSecret' is missing"))?;
    // The code is of the secret that is set up.
    let credentials = Credentials { code: None, ..credentials };
    let proof = credentials.must_prove(&app, &request, &principal.account).await?;
    second_factor(&request, &app, &principal, proof, change).await
}

/// Switches TOTP off.
pub async fn switch_off_totp(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (principal, proof) = proof::of_body(&request, &app, payload, scope::WRITE_ACCOUNT).await?;
    second_factor(&request, &app, &principal, proof, FactorChange::SwitchOff).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Makes new recovery codes in the place of those there are.
pub async fn recovery_codes(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (principal, proof) = proof::of_body(&request, &app, payload, scope::WRITE_ACCOUNT).await?;
    second_factor(&request, &app, &principal, proof, FactorChange::NewCodes).await
}

async fn second_factor(
    request: &HttpRequest,
    app: &AppState,
    principal: &Principal,
    proof: Proof,
    factor: FactorChange,
) -> Result<HttpResponse, Problem> {
    let change = UpdateAccount {
        proof: Some(proof),
        factor: Some(factor),
        ..UpdateAccount::of(principal, caller::device(request))
    };
    let updated = app.perform(change, trace::of(request, app), fault::change).await?;
    Ok(told(json!({ "recoveryCodes": updated.recovery_codes })))
}

fn require(principal: &Principal, wanted: &'static str) -> Result<(), Problem> {
    if principal.scopes.contain(wanted) { Ok(()) } else { Err(bearer::insufficient(wanted)) }
}

/// An empty secret switches TOTP off; another one sets it up, if the code is of it.
fn factor(app: &AppState, fields: &mut Reader, secret: &str, code: Option<&str>) -> Option<FactorChange> {
    if secret.is_empty() {
        return Some(FactorChange::SwitchOff);
    }
    let Some(secret) = TotpSecret::from_base32(secret) else {
        let message = "'totpSecret' must be base32 of 10 to 64 bytes, as authenticators show it";
        fields.fault("totpSecret", "invalid_secret", message);
        return None;
    };
    let step = code.and_then(|code| secret.step_of(code, app.clock.now()));
    let Some(step) = step else {
        let message = "'totpCode' must be the current code of 'totpSecret'";
        fields.fault("totpCode", if code.is_none() { "missing" } else { "invalid_code" }, message);
        return None;
    };
    Some(FactorChange::SetUp { secret: secret.as_bytes().to_vec(), step })
}

fn name(fields: &mut Reader) -> Option<String> {
    let field = if fields.has("username") { "username" } else { "preferredUsername" };
    let name = fields.text(field, LONGEST_NAME, false)?;
    let name = name.trim();
    if name.is_empty() {
        fields.fault(field, "invalid_length", format!("'{field}' must have 1 to {LONGEST_NAME} characters"));
        return None;
    }
    Some(name.to_owned())
}

/// A text adds one, an array adds many, an integer removes the one of that id.
fn keys(fields: &mut Reader) -> Vec<KeyChange> {
    let items = match fields.any("publicKeys") {
        None => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(item) => vec![item],
    };
    if items.len() > MOST_KEYS {
        fields.fault("publicKeys", "too_many", format!("'publicKeys' must name at most {MOST_KEYS} keys"));
        return Vec::new();
    }
    let mut changes = Vec::new();
    for (n, item) in items.into_iter().enumerate() {
        match (&item, item.as_i64()) {
            (_, Some(id)) => changes.push(KeyChange::Remove(id)),
            (Value::String(pem), _) => match PublicKey::parse(pem) {
                Ok(key) => changes.push(KeyChange::Add(key)),
                Err(fault) => {
                    fields.fault("publicKeys", "invalid_key", format!("'publicKeys' at {n}: it {fault}"));
                }
            },
            _ => {
                let message =
                    format!("'publicKeys' at {n}: must be a key in PEM, or the id of one to remove");
                fields.fault("publicKeys", "wrong_type", message);
            }
        }
    }
    changes
}
