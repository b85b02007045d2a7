//! Accounts: found by id, name or exact address, and what may be done to one. Every act is autha's, by the token of the operator's own account.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use reqwest::Method;
use serde_json::{Value, json};

use super::{App, fault::Fault, form::Act, guard::Session, login::see};
use crate::accounts::{Account, AccountError};

impl From<AccountError> for Fault {
    fn from(error: AccountError) -> Self {
        let told = error.to_string();
        match error {
            AccountError::LogIn => {
                Self::new(StatusCode::FORBIDDEN, told, "Open the page of accounts and log in there.")
            }
            AccountError::Away(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, told, "Start autha, or change console.autha.")
            }
            AccountError::Refused(status, _) => {
                let status = StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
                // Unauthorized would mean the console's own session.
                let status = if status == StatusCode::UNAUTHORIZED { StatusCode::FORBIDDEN } else { status };
                Self::new(status, told, "These are autha's words.")
            }
        }
    }
}

/// The log-in to autha, or its accounts, the oldest first.
pub async fn list(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    let Some(name) = app.accounts.name(session.0.id) else {
        return app.page(
            &session,
            "accounts.html",
            "accounts",
            given! { name => None::<String>, accounts => None::<()> },
        );
    };
    let asked = app.accounts.admin(session.0.id, Method::GET, &["accounts"], None).await;
    match asked {
        Ok(answer) => {
            let accounts = answer.get("accounts").cloned().unwrap_or_default();
            let accounts: Vec<Account> = serde_json::from_value(accounts).unwrap_or_default();
            app.page(&session, "accounts.html", "accounts", given! { name, accounts })
        }
        Err(AccountError::LogIn) => Ok(see("/accounts")),
        Err(error) => Err(error.into()),
    }
}

/// Logs in to autha.
pub async fn log_in(app: Data<App>, Act { session, fields }: Act) -> Result<HttpResponse, Fault> {
    let account = fields.get("account").ok_or_else(|| Fault::wrong("no account is named"))?;
    let password = fields.get("password").ok_or_else(|| Fault::wrong("the password is missing"))?;
    app.accounts.log_in(session.id, account, password, fields.get("code")).await?;
    Ok(see("/accounts"))
}

/// Logs out of autha.
pub async fn log_out(app: Data<App>, Act { session, .. }: Act) -> Result<HttpResponse, Fault> {
    app.accounts.log_out(session.id).await;
    Ok(see("/accounts"))
}

/// Finds one account. By a form that is sent, so that no address stands in an address bar.
pub async fn find(app: Data<App>, Act { session, fields }: Act) -> Result<HttpResponse, Fault> {
    let reference =
        fields.get("reference").ok_or_else(|| Fault::wrong("name an id, a name or an address"))?;
    show(&app, session, reference, None).await
}

async fn show(
    app: &App,
    session: crate::access::Pass,
    reference: &str,
    notice: Option<&str>,
) -> Result<HttpResponse, Fault> {
    let answer = app.accounts.admin(session.id, Method::GET, &["accounts", reference], None).await?;
    let account: Account = serde_json::from_value(answer).map_err(|error| Fault::broken(&error))?;
    app.page(&Session(session), "account.html", "accounts", given! { account, notice })
}

/// Does something to one account, by its internal id.
pub async fn act(app: Data<App>, Act { session, fields }: Act) -> Result<HttpResponse, Fault> {
    let id = fields.get("id").and_then(|id| uuid::Uuid::parse_str(id).ok());
    let id = id.ok_or_else(|| Fault::wrong("no account is named"))?.to_string();
    let reason = json!({"reason": fields.get("reason")});
    let (action, body, notice): (_, Option<&Value>, _) = match fields.get("action") {
        Some("suspend") => ("suspend", Some(&reason), "It is suspended, and its sessions have ended."),
        Some("restore") => ("restore", None, "It is restored."),
        Some("end-sessions") => ("end-sessions", None, "Its sessions have ended."),
        _ => return Err(Fault::wrong("this is nothing that can be done to an account")),
    };
    app.accounts.admin(session.id, Method::POST, &["accounts", &id, action], body).await?;
    show(&app, session, &id, Some(notice)).await
}
