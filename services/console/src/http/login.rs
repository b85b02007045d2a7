//! Logging in by a link of `orrery console token` or by an operator's account, and out.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::Data,
};
use tracing::info;

use super::{
    App,
    fault::Fault,
    form::{Act, Fields, Open},
    guard::{COOKIE, Session},
    pages::context_of,
};
use crate::access::{Access, Kind, Pass};

/// The form; a link fills it in. It takes a click, so that what only looks at links uses none up.
pub async fn page(
    request: HttpRequest,
    app: Data<App>,
    session: Option<Session>,
) -> Result<HttpResponse, Fault> {
    if session.is_some() {
        return Ok(see("/"));
    }
    let fields = Fields::parse(request.query_string().as_bytes());
    let snapshot = app.snapshot();
    let away = snapshot.as_ref().map(|snapshot| &snapshot.away);
    let values = given! {
        token => fields.get("token"),
        database => away.is_some_and(|away| away.database.is_some()),
        broker => away.is_some_and(|away| away.broker.is_some()),
    };
    let page = app.pages.render("login.html", context_of(&app, None, "", values))?;
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page))
}

/// Uses a link up, or asks autha.
pub async fn log_in(app: Data<App>, Open(fields): Open) -> Result<HttpResponse, Fault> {
    let now = app.clock.now();
    let session = match fields.get("account") {
        Some(account) => by_account(&app, account, &fields).await?,
        None => by_link(&app, &fields)?,
    };
    if !app.sessions.begin(&app.pool, &session, now).await? {
        return Err(refused("this link was used before"));
    }
    let line = app.operator(&session).begin("console.log_in", &format!("session {}", session.id)).await;
    match line {
        Ok(begun) => begun.end("logged in").await?,
        // An operator has to get in also while the database is away; whoever changes something then is refused by the log.
        Err(error) if error.is_outage() => info!("somebody logged in while the audit log was away"),
        Err(error) => return Err(error.into()),
    }
    let text = app.access.seal(Kind::Session, &session).map_err(|error| Fault::broken(&error))?;
    with_cookie(see("/"), &app, &text, app.config.session_lifetime.as_secs())
}

fn refused(what: &str) -> Fault {
    Fault::new(StatusCode::FORBIDDEN, what, "Run 'orrery console token' for a new one.")
}

/// The session of a link.
fn by_link(app: &App, fields: &Fields) -> Result<Pass, Fault> {
    let now = app.clock.now();
    // Also the whole link may be pasted.
    let token = fields.get("token").unwrap_or_default();
    let token = token.split_once("token=").map_or(token, |(_, token)| token);
    let link = app.access.open(Kind::Link, token, now);
    let link = link.ok_or_else(|| refused("this link is over, or none of this installation"))?;
    Ok(Access::session(&link, now, app.config.session_lifetime))
}

/// The session of an operator's account. Its name stands in the audit log, never the address that was typed.
async fn by_account(app: &App, account: &str, fields: &Fields) -> Result<Pass, Fault> {
    let password = fields.get("password").ok_or_else(|| Fault::wrong("the password is missing"))?;
    let session = Access::pass(&app.random, "", app.clock.now(), app.config.session_lifetime);
    let actor = app.accounts.log_in(session.id, account, password, fields.get("code")).await?;
    Ok(Pass { actor, by_account: true, ..session })
}

/// Ends the session.
pub async fn log_out(app: Data<App>, act: Act) -> Result<HttpResponse, Fault> {
    app.accounts.log_out(act.session.id).await;
    match app.sessions.end(&app.pool, &act.session).await {
        Ok(()) => {}
        // It has ended here.
        Err(error) if error.is_outage() => {}
        Err(error) => return Err(error.into()),
    }
    with_cookie(see("/login"), &app, "", 0)
}

/// The answer with the session's cookie: for this host, for no script, and sent by no other site (RFC 6265). A sealed text needs no quotes.
fn with_cookie(
    mut response: HttpResponse,
    app: &App,
    value: &str,
    seconds: u64,
) -> Result<HttpResponse, Fault> {
    let secure = if app.config.is_https() { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| Fault::broken(&error))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Another page instead.
pub fn see(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, path.to_owned())).finish()
}
