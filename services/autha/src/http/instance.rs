//! What the instance says of itself: `/status.json`, the JWKS, its API description.

use actix_web::{HttpResponse, http::header, web::Data};
use orrery_actors::web::problem::Problem;
use serde_json::json;

use super::{Desk, fault};
use crate::token::keys::{JWKS_LIFETIME, KeysMissing};

/// The name, the pages, and whether sign-up needs an invite.
pub async fn status(desk: Data<Desk>) -> HttpResponse {
    let instance = &desk.config.instance;
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=60")).json(json!({
        "name": instance.name,
        "url": desk.config.base(),
        "support": instance.support,
        "favicon": instance.favicon,
        "background": instance.background,
        "terms_of_service": instance.terms_of_service,
        "privacy_policy": instance.privacy_policy,
        "invite_only": !desk.config.invites.is_empty(),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// Every valid key (RFC 7517).
pub async fn jwks(desk: Data<Desk>) -> Result<HttpResponse, Problem> {
    if !desk.keys.is_loaded() {
        return Err(fault::token(&KeysMissing.into()));
    }
    let cache = format!("public, max-age={}", JWKS_LIFETIME.num_seconds());
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, cache)).json(desk.keys.jwks()))
}

/// The description of the routes.
pub async fn openapi() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/yaml")
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .body(orrery_schemas::OPENAPI)
}
