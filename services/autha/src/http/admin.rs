//! The admin API: what `orrery account` does, over HTTP, for tokens with the scope `admin`. Each change has its line in the audit log.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Payload, Query},
};
use orrery_schemas::{ids::AccountId, problems::Code};
use orrery_seal::SealError;
use orrery_store::StoreError;
use orrery_web::problem::Problem;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{AppState, bearer, body, fault, sign_up::new_password, trace};
use crate::{
    account::{
        change::Change,
        deletion::DeleteAccount,
        register::RegisterAccount,
        state::{RestoreAccount, SuspendAccount},
    },
    http::fields::Reader,
    operator::{
        self, Actor, Audited, CreateAccount, Entry, Filter, InviteSomebody, ListedAccount, ResetSecondFactor,
        audit::{self, AuditError},
    },
    session::{
        EndSessions,
        principal::{Principal, scope},
    },
    stored_time,
};

/// How long after its log-in an operator's session may act.
const FRESH: chrono::Duration = chrono::Duration::hours(12);
/// The most lines of one page.
const LONGEST_PAGE: i64 = 500;

/// A page of a list.
#[derive(Deserialize)]
pub struct Page {
    after: Option<String>,
    before: Option<String>,
    limit: Option<String>,
    state: Option<String>,
}

impl Page {
    fn limit(&self) -> Result<i64, Problem> {
        let Some(text) = &self.limit else { return Ok(100) };
        text.parse::<i64>().ok().filter(|limit| (1..=LONGEST_PAGE).contains(limit)).ok_or_else(|| {
            let message = format!("'limit' must be 1 to {LONGEST_PAGE}");
            Problem::field(Code::InvalidField, "limit", "invalid_limit", message)
        })
    }

    fn id(field: &'static str, text: Option<&String>) -> Result<Option<Uuid>, Problem> {
        text.map(|text| {
            text.parse().map_err(|_| {
                let message = format!("'{field}' must be the last id of the page before");
                Problem::field(Code::InvalidField, field, "invalid_id", message)
            })
        })
        .transpose()
    }
}

fn answer(document: impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "private, no-store")).json(document)
}

fn audit_fault(error: &AuditError) -> Problem {
    match error {
        AuditError::Store(error) => fault::store(error),
        AuditError::Seal(error) => fault::seal(error),
    }
}

/// An operator, who has shown a second factor not long ago.
async fn operator(request: &HttpRequest, app: &AppState) -> Result<Principal, Problem> {
    let principal = bearer::principal(request, app, scope::ADMIN).await?;
    let is_fresh = stored_time::is_within(principal.authenticated_at, FRESH, app.clock.now());
    if is_fresh && principal.methods.iter().any(|method| method == "mfa") {
        return Ok(principal);
    }
    let detail = "log in again with a second factor: an operator's session acts for 12 hours";
    Err(Problem::new(Code::InvalidToken, detail))
}

async fn target(app: &AppState, reference: String) -> Result<ListedAccount, Problem> {
    let vault = std::sync::Arc::clone(&app.vault);
    app.pool
        .run(move |mut connection| async move {
            operator::by_reference(&mut connection, &vault, &reference).await
        })
        .await
        .map_err(|error| fault::store(&error))?
        .ok_or_else(|| Problem::new(Code::NotFound, "no account has this id, name or address"))
}

/// Makes a change to an account and writes the line of it.
async fn act<C>(
    request: &HttpRequest,
    app: &AppState,
    action: &'static str,
    reference: String,
    detail: Option<String>,
    change: impl FnOnce(Uuid) -> C,
    explain: fn(&C::Error) -> Problem,
) -> Result<C::Done, Problem>
where
    C: Change,
    C::Error: From<SealError>,
{
    let principal = operator(request, app).await?;
    let account = target(app, reference).await?;
    let entry = Entry {
        actor: Actor::Account(principal.account.vanity),
        action,
        account: Some(account.id),
        subject: Some(account.vanity),
        detail,
    };
    let audited = Audited { change: change(account.id), entry };
    app.perform(audited, trace::of(request, app), explain).await
}

/// Lists accounts.
pub async fn list(
    request: HttpRequest,
    app: Data<AppState>,
    page: Query<Page>,
) -> Result<HttpResponse, Problem> {
    operator(&request, &app).await?;
    let (limit, after) = (page.limit()?, Page::id("after", page.after.as_ref())?);
    let filter = match page.state.as_deref() {
        None => Filter::All,
        Some("suspended") => Filter::Suspended,
        Some("deleted") => Filter::Deleted,
        Some(_) => {
            let message = "'state' must be suspended or deleted";
            return Err(Problem::field(Code::InvalidField, "state", "invalid_state", message));
        }
    };
    let accounts = app
        .pool
        .run(move |mut connection| async move { operator::list(&mut connection, filter, after, limit).await })
        .await
        .map_err(|error| fault::store(&error))?;
    Ok(answer(json!({ "accounts": accounts })))
}

/// Shows one account, by internal id, name or address.
pub async fn show(
    request: HttpRequest,
    app: Data<AppState>,
    reference: Path<String>,
) -> Result<HttpResponse, Problem> {
    let principal = operator(&request, &app).await?;
    let account = target(&app, reference.into_inner()).await?;
    let entry = Entry {
        actor: Actor::Account(principal.account.vanity),
        action: "account.show",
        account: Some(account.id),
        subject: Some(account.vanity.clone()),
        detail: None,
    };
    // Looking at somebody's address is an act as well.
    app.perform(operator::Look { entry }, trace::of(&request, &app), audit_fault).await?;
    let vault = std::sync::Arc::clone(&app.vault);
    let shown = app
        .pool
        .run(move |mut connection| async move { operator::show(&mut connection, &vault, account).await })
        .await
        .map_err(|error: StoreError| fault::store(&error))?;
    Ok(answer(shown))
}

/// Makes an account. Without a password its owner sets one by mail.
pub async fn create(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let principal = operator(&request, &app).await?;
    let mut fields = Reader::new(body::json(&request, payload).await?);
    let vanity = fields.vanity("id", &app.config.reserved_names);
    let address = fields.email("email", app.config.international_addresses);
    let locale = fields.locale("locale");
    let password = if fields.has("password") { fields.password("password") } else { None };
    fields.finish()?;
    let (Some(vanity), Some(address), Some(locale)) = (vanity, address, locale) else {
        return Err(Problem::new(Code::InvalidField, "a field is missing"));
    };
    let asks = password.is_none();
    let password_hash = match password {
        Some(password) => {
            let inputs = vec![vanity.display.clone(), address.typed().to_owned()];
            new_password(&app, "password", password, inputs).await?
        }
        None => operator::NO_PASSWORD.to_owned(),
    };
    let account = AccountId(app.random.uuid_v7(&app.clock));
    let entry = Entry {
        actor: Actor::Account(principal.account.vanity),
        action: "account.create",
        account: Some(account.0),
        subject: Some(vanity.key.clone()),
        detail: None,
    };
    let register = RegisterAccount {
        account,
        vanity: vanity.key,
        username: vanity.display,
        address,
        password_hash,
        locale,
        session: None,
        invite: None,
        repeatable: None,
    };
    let change = Audited { change: CreateAccount { register, asks }, entry };
    app.perform(change, trace::of(&request, &app), fault::register).await?;
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .json(json!({ "id": account })))
}

/// Suspends an account.
pub async fn suspend(
    request: HttpRequest,
    app: Data<AppState>,
    reference: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    operator(&request, &app).await?;
    let mut fields = Reader::new(body::json(&request, payload).await?);
    let reason = fields.text("reason", 500, true);
    fields.finish()?;
    let change = {
        let reason = reason.clone();
        move |account| SuspendAccount { account, reason }
    };
    act(&request, &app, "account.suspend", reference.into_inner(), reason, change, fault::change).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends a suspension, or a deletion that waits.
pub async fn restore(
    request: HttpRequest,
    app: Data<AppState>,
    reference: Path<String>,
) -> Result<HttpResponse, Problem> {
    let change = |account| RestoreAccount { account };
    act(&request, &app, "account.restore", reference.into_inner(), None, change, fault::change).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Deletes an account after the usual grace.
pub async fn delete(
    request: HttpRequest,
    app: Data<AppState>,
    reference: Path<String>,
) -> Result<HttpResponse, Problem> {
    let change = |account| DeleteAccount { account, proof: None };
    let until =
        act(&request, &app, "account.delete", reference.into_inner(), None, change, fault::change).await?;
    Ok(answer(json!({ "status": "deletion_scheduled", "restorableUntil": until })))
}

/// Takes a second factor away.
pub async fn reset_second_factor(
    request: HttpRequest,
    app: Data<AppState>,
    reference: Path<String>,
) -> Result<HttpResponse, Problem> {
    let change = |account| ResetSecondFactor { account };
    act(&request, &app, "account.reset_second_factor", reference.into_inner(), None, change, fault::change)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends all sessions of an account.
pub async fn end_sessions(
    request: HttpRequest,
    app: Data<AppState>,
    reference: Path<String>,
) -> Result<HttpResponse, Problem> {
    let change = |account| operator::EndAll(EndSessions { account, keep: None });
    act(&request, &app, "account.end_sessions", reference.into_inner(), None, change, fault::change).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Makes an invite.
pub async fn invite(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let principal = operator(&request, &app).await?;
    let mut fields = Reader::new(body::json(&request, payload).await?);
    let address =
        if fields.has("email") { fields.email("email", app.config.international_addresses) } else { None };
    let locale = fields.locale("locale").unwrap_or_else(|| "en".to_owned());
    fields.finish()?;
    let entry = Entry {
        actor: Actor::Account(principal.account.vanity.clone()),
        action: "account.invite",
        account: None,
        subject: None,
        detail: address.as_ref().map(|address| address.typed().to_owned()),
    };
    let change = InviteSomebody { address, locale, uses: 1, inviter: Some(principal.account.username) };
    let invited = app.perform(Audited { change, entry }, trace::of(&request, &app), fault::change).await?;
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .json(json!({ "invite": invited.invite, "link": invited.link, "until": invited.until })))
}

/// The audit log, the newest first.
pub async fn audit(
    request: HttpRequest,
    app: Data<AppState>,
    page: Query<Page>,
) -> Result<HttpResponse, Problem> {
    operator(&request, &app).await?;
    let (limit, before) = (page.limit()?, Page::id("before", page.before.as_ref())?);
    let vault = std::sync::Arc::clone(&app.vault);
    let lines =
        app.pool
            .run(move |mut connection| async move {
                audit::read(&mut connection, &vault.audit, before, limit).await
            })
            .await
            .map_err(|error| audit_fault(&error))?;
    Ok(answer(json!({ "lines": lines })))
}

/// Accounts that are gone, and who has said that it holds nothing of them.
pub async fn deletions(
    request: HttpRequest,
    app: Data<AppState>,
    page: Query<Page>,
) -> Result<HttpResponse, Problem> {
    operator(&request, &app).await?;
    let limit = page.limit()?;
    let deletions = app
        .pool
        .run(move |mut connection| async move { operator::deletions(&mut connection, limit).await })
        .await
        .map_err(|error| fault::store(&error))?;
    Ok(answer(json!({ "deletions": deletions })))
}
