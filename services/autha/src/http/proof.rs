//! Taking a proof from a request: who is meant, the password on the hashing pool, the code. It is counted when it is wrong, and used up later, within
//! the change that it allows.

use std::net::IpAddr;

use actix_web::{HttpRequest, web::Payload};
use orrery_schemas::{address::Address, problems::Code};
use orrery_store::StoreError;
use orrery_web::problem::Problem;
use uuid::Uuid;

use super::{AppState, bearer, body, caller, fault, limit};
use crate::{
    account::{
        lookup::{self, Account, Candidate},
        vanity::Vanity,
    },
    credential::{
        proof::{Proof, ProofError, Second},
        store::{self, Login},
    },
    http::fields::Reader,
    password::{Password, Verified},
    session::principal::Principal,
    throttle::Attempt,
};

/// Who logs in: a name or an address that could be one.
pub enum Who {
    /// A name.
    Vanity(String),
    /// The normal form of an address.
    Email(String),
    /// Nobody can be called so; it takes as long as a wrong password.
    Nobody(String),
}

impl Who {
    /// By what was typed: an address comes first, as upstream has it.
    pub fn of(email: Option<String>, id: Option<String>) -> Self {
        match (email, id) {
            (Some(email), _) => match Address::parse(&email, true) {
                Ok(address) => Self::Email(address.normal().to_owned()),
                Err(_) => Self::Nobody(email),
            },
            (None, Some(id)) => match Vanity::parse(&id) {
                Some(vanity) => Self::Vanity(vanity.key),
                None => Self::Nobody(id),
            },
            (None, None) => Self::Nobody(String::new()),
        }
    }
}

/// Somebody who has proven who they are.
pub struct Proven {
    /// Who.
    pub who: Candidate,
    /// By what.
    pub proof: Proof,
}

/// What proves, as a body has it: `password`, and `totpCode` where a second factor is set up.
#[derive(Default)]
pub struct Credentials {
    /// The password.
    pub password: Option<Password>,
    /// The code.
    pub code: Option<String>,
}

impl Credentials {
    /// Takes them from the fields of a body; their faults are the reader's.
    pub fn read(fields: &mut Reader) -> Self {
        Self { password: fields.password("password"), code: fields.optional("totpCode") }
    }

    /// Checks them for somebody who is logged in; none without a password.
    ///
    /// # Errors
    /// As `log_in`.
    pub async fn prove(
        self,
        app: &AppState,
        request: &HttpRequest,
        account: &Account,
    ) -> Result<Option<Proof>, Problem> {
        let Some(password) = self.password else { return Ok(None) };
        let from = caller::address(request, app);
        fresh(app, account.id, &account.vanity, password, self.code, from).await.map(Some)
    }

    /// The same where a password has to be there.
    ///
    /// # Errors
    /// As `log_in`, and 422 without one.
    pub async fn must_prove(
        self,
        app: &AppState,
        request: &HttpRequest,
        account: &Account,
    ) -> Result<Proof, Problem> {
        let proof = self.prove(app, request, account).await?;
        proof.ok_or_else(|| Problem::new(Code::InvalidField, "'password' is missing"))
    }
}

/// The caller and their fresh proof, for a route whose body is nothing else.
///
/// # Errors
/// As `bearer::principal`, `body::json` and `log_in`.
pub async fn of_body(
    request: &HttpRequest,
    app: &AppState,
    payload: Payload,
    scope: &'static str,
) -> Result<(Principal, Proof), Problem> {
    let principal = bearer::principal(request, app, scope).await?;
    let mut fields = Reader::new(body::json(request, payload).await?);
    let credentials = Credentials::read(&mut fields);
    fields.finish()?;
    let proof = credentials.must_prove(app, request, &principal.account).await?;
    Ok((principal, proof))
}

fn wrong() -> Problem {
    let detail = "there is no account with this name or address and password";
    Problem::new(Code::InvalidCredentials, detail)
}

/// Checks name or address, password and code. Somebody unknown takes as long, and gets the same answer.
///
/// # Errors
/// 401 where something is wrong, 429 where it was too often, 503 where too many wait.
pub async fn log_in(
    app: &AppState,
    who: Who,
    password: Password,
    code: Option<String>,
    from: Option<IpAddr>,
) -> Result<Proven, Problem> {
    let found = find(app, &who).await?;
    // Counted by account where there is one: its name and its address share a budget.
    let counted = match (&found, &who) {
        (Some((candidate, _)), _) => candidate.id.to_string(),
        (None, Who::Vanity(text) | Who::Email(text) | Who::Nobody(text)) => text.clone(),
    };
    check(app, found, &counted, password, code, from).await
}

/// Checks the password and the code of somebody who is logged in, for a dangerous change.
///
/// # Errors
/// As `log_in`.
async fn fresh(
    app: &AppState,
    account: Uuid,
    vanity: &str,
    password: Password,
    code: Option<String>,
    from: Option<IpAddr>,
) -> Result<Proof, Problem> {
    let login = app
        .pool
        .run(move |mut connection| async move { store::of_login(&mut connection, account).await })
        .await
        .map_err(|error| fault::store(&error))?;
    let candidate = Candidate { id: account, vanity: vanity.to_owned() };
    let counted = account.to_string();
    let proven = check(app, Some((candidate, login)), &counted, password, code, from).await?;
    Ok(proven.proof)
}

async fn check(
    app: &AppState,
    found: Option<(Candidate, Login)>,
    counted: &str,
    password: Password,
    code: Option<String>,
    from: Option<IpAddr>,
) -> Result<Proven, Problem> {
    let attempt = Attempt::Credentials(counted);
    limit::check(app, attempt, from).await?;
    let hash = found.as_ref().and_then(|(_, login)| login.password.as_ref()).map(|row| row.secret.clone());
    let verified = app.passwords.verify(password, hash).await.map_err(|error| fault::pool(&error))?;
    let right = match verified {
        Verified::Wrong => None,
        Verified::Right => Some(None),
        Verified::Upgraded(hash) => Some(Some(hash)),
    };
    let (Some((who, login)), Some(upgraded)) = (found, right) else {
        limit::failed(app, attempt, from).await?;
        return Err(wrong());
    };
    let Some(password) = login.password.clone() else { return Err(wrong()) };
    let second = match Second::check(&app.vault, &login, code.as_deref(), app.clock.now()) {
        Ok(second) => second,
        Err(error) => {
            // The first factor was right: only a wrong code is counted.
            if matches!(error, ProofError::CodeWrong) {
                limit::failed(app, attempt, from).await?;
            }
            return Err(fault::proof(&error));
        }
    };
    // A recovery code is not known to be right before it is used up, so its tries are not forgotten here.
    if !matches!(second, Second::RecoveryCode(_)) {
        limit::passed(app, attempt, from).await?;
    }
    let proof = Proof { account: who.id, password, upgraded, second };
    Ok(Proven { who, proof })
}

async fn find(app: &AppState, who: &Who) -> Result<Option<(Candidate, Login)>, Problem> {
    let (vanity, hashes) = match who {
        Who::Nobody(_) => (None, Vec::new()),
        Who::Vanity(vanity) => (Some(vanity.clone()), Vec::new()),
        Who::Email(email) => (None, app.vault.email.macs(email.as_bytes())),
    };
    app.pool
        .run(move |mut connection| async move {
            let found = match vanity {
                Some(vanity) => lookup::candidate_by_vanity(&mut connection, &vanity).await?,
                None => lookup::candidate_by_email(&mut connection, &hashes).await?,
            };
            // Somebody unknown takes as many looks.
            let id = found.as_ref().map(|found| found.id).unwrap_or_default();
            let login = store::of_login(&mut connection, id).await?;
            Ok::<_, StoreError>(found.map(|found| (found, login)))
        })
        .await
        .map_err(|error| fault::store(&error))
}
