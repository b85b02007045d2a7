//! Answers from the cache, which is filled by one request for all who want the same.

use actix_web::{
    HttpResponse,
    body::MessageBody,
    http::{Method, StatusCode, header},
};
use orrery_observability::metrics;
use orrery_web::problem::Problem;

use super::{Asked, Proxy, target};
use crate::{
    answer::Untold,
    body::Framing,
    cache::{Cache, Found},
    live::Backend,
};

/// Whether an answer to this may be everybody's.
pub(super) fn may_be_kept(asked: Asked<'_>) -> bool {
    asked.entered.admitted.rule.cached
        && matches!(*asked.method, Method::GET | Method::HEAD)
        && asked.framing == Framing::None
        && ![header::AUTHORIZATION, header::COOKIE, header::RANGE]
            .iter()
            .any(|name| asked.headers.contains_key(name))
}

impl Proxy {
    /// Answers from the cache, or asks once for all who want the same.
    pub(super) async fn cached(
        &self,
        cache: &Cache,
        backend: &Backend,
        asked: Asked<'_>,
    ) -> Result<HttpResponse, Problem> {
        let Asked { request, method, headers, entered, .. } = asked;
        let rule = &entered.admitted.rule;
        let target = target(request, entered);
        let host = if rule.foreign { entered.forwarded.host() } else { "" };
        let key = format!("{host} {target}");
        let found = cache.find(&key, headers);
        metrics::cache_lookup(match &found {
            Found::Fresh(_) => "hit",
            Found::Stale(_) => "stale",
            Found::Nothing => "miss",
            Found::Passed => "passed",
        });
        match found {
            Found::Fresh(stored) => return Ok(stored.answer(method, headers, "orrery; hit")),
            Found::Passed => return self.answer(backend, asked).await,
            Found::Stale(_) | Found::Nothing => {}
        }
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let flight = cache.flights.acquire(&format!("{key} {accept}"), rule.silence).await;
        let stale = match cache.find(&key, headers) {
            Found::Fresh(stored) => return Ok(stored.answer(method, headers, "orrery; hit; collapsed")),
            Found::Passed => {
                drop(flight);
                return self.answer(backend, asked).await;
            }
            Found::Stale(stored) => Some(stored),
            Found::Nothing => None,
        };
        let purges = cache.purges();
        let mut whole = headers.clone();
        for condition in [
            header::IF_NONE_MATCH,
            header::IF_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
            header::IF_RANGE,
        ] {
            whole.remove(condition);
        }
        if let Some(etag) = stale.as_ref().and_then(|stale| stale.etag()) {
            whole.insert(header::IF_NONE_MATCH, etag.clone());
        }
        let wanted = Asked { method: &Method::GET, headers: &whole, ..asked };
        let response = self.answer(backend, wanted).await?;
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some(stale) = stale
        {
            let stored = cache.refresh(&key, &target, headers, &stale, response.headers(), purges);
            return Ok(stored.answer(method, headers, "orrery; fwd=stale; fwd-status=304"));
        }
        Ok(match cache.keep(&key, &target, headers, response, purges).await {
            Ok(stored) => stored.answer(method, headers, "orrery; fwd=miss; stored"),
            Err(response) if *method == Method::HEAD => {
                response.map_body(|_, body| Untold(body.size()).boxed())
            }
            Err(response) => response,
        })
    }
}
