//! What stands around every page: nobody gets further than the log-in without a session, and every answer carries what keeps a browser from running what is not ours.

use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use serde_json::json;
use std::future::{Ready, ready};

use super::{App, fault::Fault, pages::context_of};
use crate::access::{Kind, Pass};

/// The cookie of a session.
pub const COOKIE: &str = "orrery_console";
/// Only what this listener serves, and no script within a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Whoever is logged in; handlers behind the guard always have one.
pub struct Session(pub Pass);

/// A program with a token for the admin API. No browser sends one by itself.
#[derive(Clone)]
pub struct Admin(pub Pass);

impl FromRequest for Admin {
    type Error = Fault;
    type Future = Ready<Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(|| {
            Fault::new(
                StatusCode::UNAUTHORIZED,
                "this is for programs with a bearer token for the admin API",
                "Make one with 'orrery console token --admin'.",
            )
        }))
    }
}

impl FromRequest for Session {
    type Error = Fault;
    type Future = Ready<Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Pass>().cloned().map(Self).ok_or_else(Fault::log_in))
    }
}

/// Lets in who may come in, and dresses the answer.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let path = request.path().to_owned();
    let is_open = path == "/login" || path.starts_with("/assets/");
    let app = request.app_data::<Data<App>>().cloned().ok_or_else(Fault::log_in)?;
    let admin = admin(&app, &request);
    if let Some(pass) = &admin {
        request.extensions_mut().insert(Admin(pass.clone()));
    }
    let pass = match admin.or_else(|| pass(&app, &request)) {
        Some(pass) if pass.by_account && !app.accounts.is_operator(pass.id).await => None,
        pass => pass,
    };
    if let Some(pass) = &pass {
        request.extensions_mut().insert(pass.clone());
    }
    let answer = if is_open || pass.is_some() {
        next.call(request).await?.map_into_boxed_body()
    } else {
        request.error_response(Fault::log_in())
    };
    let mut answer = explained(&app, answer, &path, pass.as_ref());
    dress(answer.headers_mut());
    Ok(answer)
}

/// A bearer token's text.
fn bearer(request: &ServiceRequest) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The program that uses the admin API, which is of service providers alone.
fn admin(app: &App, request: &ServiceRequest) -> Option<Pass> {
    let path = request.path();
    let is_there = path == "/api/providers.json" || path.starts_with("/api/providers/");
    app.access.open(Kind::Admin, bearer(request).filter(|_| is_there)?, app.clock.now())
}

/// The session of a request: by its cookie, or for a program that reads facts by its bearer token.
fn pass(app: &App, request: &ServiceRequest) -> Option<Pass> {
    let bearer = || {
        let is_read = request.method() == Method::GET && request.path().starts_with("/api/");
        bearer(request).filter(|_| is_read).map(str::to_owned)
    };
    let cookie = request.headers().get_all(header::COOKIE).find_map(|value| {
        let pairs = value.to_str().ok()?.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.into_iter().find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
    });
    let pass = app.access.open(Kind::Session, &cookie.or_else(bearer)?, app.clock.now())?;
    (!app.sessions.is_ended(&pass)).then_some(pass)
}

/// A fault as a page, or as a problem document for programs.
fn explained(
    app: &App,
    answer: ServiceResponse<BoxBody>,
    path: &str,
    pass: Option<&Pass>,
) -> ServiceResponse<BoxBody> {
    let Some(fault) = answer.response().error().and_then(|error| error.as_error::<Fault>()).cloned() else {
        return answer;
    };
    let is_program = path.starts_with("/api/") || path.starts_with("/live/");
    let mut response = if is_program {
        let body = json!({
            "type": "about:blank", "title": fault.status.canonical_reason(), "status": fault.status.as_u16(),
            "detail": fault.what, "todo": fault.todo,
        });
        let mut response = HttpResponse::build(fault.status).json(body);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    } else if fault.status == StatusCode::UNAUTHORIZED && answer.request().method() == Method::GET {
        HttpResponse::SeeOther().insert_header((header::LOCATION, "/login")).finish()
    } else {
        let page = given! { what => fault.what.as_str(), todo => fault.todo };
        match app.pages.render("fault.html", context_of(app, pass, "", page)) {
            Ok(page) => HttpResponse::build(fault.status).content_type("text/html; charset=utf-8").body(page),
            Err(_) => return answer,
        }
    };
    if fault.status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    let (request, _) = answer.into_parts();
    ServiceResponse::new(request, response)
}

/// Headers of every answer; one that has a policy of its own keeps it.
fn dress(headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Not `no-referrer`: browsers then send `Origin: null` with our own forms too.
    set(header::REFERRER_POLICY, "same-origin");
    set(header::CACHE_CONTROL, "no-store");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
}
