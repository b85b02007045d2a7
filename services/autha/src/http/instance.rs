//! What the instance says of itself: `/status.json`, the JWKS, its discovery documents, its API description.

use std::sync::OnceLock;

use actix_web::{
    HttpResponse,
    http::header,
    web::{Data, Query},
};
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AppState, fault, profile};
use crate::{
    config::SignUp,
    key::{JWKS_LIFETIME, KeysMissing},
    session::principal::scope,
};

/// The name, the pages, and whether sign-up needs an invite.
pub async fn status(app: Data<AppState>) -> HttpResponse {
    let instance = &app.config.instance;
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=60")).json(json!({
        "name": instance.name,
        "url": app.links.base(),
        "support": instance.support,
        "favicon": instance.favicon,
        "background": instance.background,
        "terms_of_service": instance.terms_of_service,
        "privacy_policy": instance.privacy_policy,
        "invite_only": app.config.sign_up() != SignUp::Open,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// Every valid key (RFC 7517).
pub async fn jwks(app: Data<AppState>) -> Result<HttpResponse, Problem> {
    if !app.keys.is_loaded() {
        return Err(fault::token(&KeysMissing.into()));
    }
    let cache = format!("public, max-age={}", JWKS_LIFETIME.num_seconds());
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, cache)).json(app.keys.jwks()))
}

/// What of OpenID Connect and OAuth is served: tokens are refreshed, introspected and revoked; there is no authorisation endpoint yet.
pub async fn discovery(app: Data<AppState>) -> HttpResponse {
    let links = &app.links;
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=3600")).json(json!({
        "issuer": links.base(),
        "jwks_uri": links.of("/.well-known/jwks.json"),
        "token_endpoint": links.of("/oauth/token"),
        "introspection_endpoint": links.of("/oauth/introspect"),
        "revocation_endpoint": links.of("/oauth/revoke"),
        "grant_types_supported": ["refresh_token"],
        "response_types_supported": [],
        "scopes_supported": scope::DEFAULT.split(' ').collect::<Vec<_>>(),
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "service_documentation": links.of("/openapi.yaml"),
    }))
}

/// Whom WebFinger is asked for.
#[derive(Deserialize)]
pub struct Resource {
    resource: Option<String>,
}

/// Leads from `acct:ada@domain`, or a profile's address, to the profile (RFC 7033).
pub async fn webfinger(app: Data<AppState>, query: Query<Resource>) -> Result<HttpResponse, Problem> {
    let resource = query.into_inner().resource.ok_or_else(|| {
        let message = "'resource' is missing; ask for acct:name@domain";
        Problem::field(Code::Malformed, "resource", "missing", message)
    })?;
    let absent = || Problem::new(Code::NotFound, "this instance has no such resource");
    let vanity = if let Some(account) = resource.strip_prefix("acct:") {
        let (name, domain) = account.rsplit_once('@').ok_or_else(absent)?;
        if !domain.eq_ignore_ascii_case(app.links.domain()) {
            return Err(absent());
        }
        name.to_owned()
    } else {
        resource.strip_prefix(&app.links.of("/users/")).ok_or_else(absent)?.to_owned()
    };
    let account = profile::by_id(&app, &vanity).await?;
    let url = app.links.profile(&account.vanity);
    let mut links = vec![
        json!({ "rel": "self", "type": "application/activity+json", "href": url }),
        json!({ "rel": "http://webfinger.net/rel/profile-page", "type": "application/json", "href": url }),
    ];
    if account.icon_upload.is_some() {
        let picture = app.links.of(&format!("/avatars/{}", account.vanity));
        // Its type is negotiated.
        links.push(json!({ "rel": "http://webfinger.net/rel/avatar", "href": picture }));
    }
    let document = json!({
        "subject": format!("acct:{}@{}", account.vanity, app.links.domain()),
        "aliases": [url],
        "links": links,
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=60"))
        // RFC 7033, 5: web pages of any origin may ask.
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .content_type("application/jrd+json")
        .body(document.to_string()))
}

/// The description of the routes.
pub async fn openapi() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/yaml")
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .body(orrery_schemas::OPENAPI)
}

/// The same as JSON.
pub async fn openapi_json() -> Result<HttpResponse, Problem> {
    static DOCUMENT: OnceLock<Option<String>> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| {
        let value: Value = yaml_serde::from_str(orrery_schemas::OPENAPI).ok()?;
        serde_json::to_string(&value).ok()
    });
    let document =
        document.as_deref().ok_or_else(|| Problem::new(Code::Internal, "the description cannot be read"))?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .body(document))
}
