//! Answers that may be kept for everybody (RFC 9111, a shared cache): in memory, bounded by bytes, dropped by whom they are about. How one is
//! fetched once for many lives in `flight`, what tells of changes in `purge`.

mod flight;
mod policy;
mod purge;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse,
    body::{BodySize, MessageBody},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;
use orrery_observability::metrics;
use orrery_supervise::clock::Clock;

pub use self::{flight::Flights, purge::Purge};
use crate::{answer::Untold, end_to_end::CACHE_TAG};

/// How many answers of one address are kept, that differ by what the client asked for.
const VARIANTS: usize = 8;
/// How long an answer that may not be kept is remembered as such: meanwhile nobody waits for another's.
const PASSED: Duration = Duration::from_secs(10);

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What is known of one address.
#[derive(Clone)]
enum Known {
    /// Answers.
    Stored(Arc<Vec<Arc<Stored>>>),
    /// Its answers may not be kept.
    Passed(Instant),
}

/// One answer.
pub struct Stored {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// What the client asked for, in the fields that the answer depends on.
    vary: Vec<(HeaderName, Option<HeaderValue>)>,
    tag: Option<String>,
    stored_at: Instant,
    age: Duration,
    fresh_until: Instant,
}

/// What the cache has for a request.
pub enum Found {
    /// An answer that can be given.
    Fresh(Arc<Stored>),
    /// One that has to be asked for again.
    Stale(Arc<Stored>),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing to wait for.
    Passed,
}

/// The cache, shared by the workers.
#[derive(Clone)]
pub struct Cache {
    known: moka::sync::Cache<String, Known>,
    tags: Arc<Mutex<HashMap<String, HashSet<String>>>>,
    purges: Arc<AtomicU64>,
    /// One fetch for many.
    pub flights: Flights,
    clock: Clock,
    /// Bytes of one answer.
    pub answer_bytes: usize,
}

impl Cache {
    /// An empty cache of so many bytes.
    pub fn new(bytes: u64, answer_bytes: usize, clock: Clock) -> Self {
        let tags: Arc<Mutex<HashMap<String, HashSet<String>>>> = Arc::default();
        let index = Arc::clone(&tags);
        let known = moka::sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|key: &String, known: &Known| weight(key, known))
            .eviction_listener(move |key, known, cause| {
                if cause != moka::notification::RemovalCause::Replaced {
                    forget(&index, &key, &known);
                }
            })
            .build();
        let sized = known.clone();
        metrics::observe_cache(move || sized.weighted_size());
        Self { known, tags, purges: Arc::default(), flights: Flights::default(), clock, answer_bytes }
    }

    /// What there is for a request at an address.
    pub fn find(&self, key: &str, request: &HeaderMap) -> Found {
        match self.known.get(key) {
            None => Found::Nothing,
            Some(Known::Passed(until)) if until > Instant::now() => Found::Passed,
            Some(Known::Passed(_)) => Found::Nothing,
            Some(Known::Stored(variants)) => match variants.iter().find(|stored| stored.fits(request)) {
                None => Found::Nothing,
                Some(stored) if stored.fresh_until > Instant::now() && !policy::wants_new(request) => {
                    Found::Fresh(Arc::clone(stored))
                }
                Some(stored) => Found::Stale(Arc::clone(stored)),
            },
        }
    }

    /// How often something was dropped: what is fetched meanwhile may be of before.
    pub fn purges(&self) -> u64 {
        self.purges.load(Ordering::Acquire)
    }

    /// Keeps an answer if that may be; `purges` is what it was when it was asked for.
    pub async fn keep(
        &self,
        key: &str,
        target: &str,
        request: &HeaderMap,
        mut response: HttpResponse,
        purges: u64,
    ) -> Result<Arc<Stored>, HttpResponse> {
        let tag = response.headers().get(CACHE_TAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        response.headers_mut().remove(CACHE_TAG);
        let fits = matches!(response.body().size(), BodySize::Sized(bytes) if bytes <= u64::try_from(self.answer_bytes).unwrap_or(u64::MAX))
            || matches!(response.body().size(), BodySize::None);
        let lifetime = policy::lifetime(target, request, response.status(), response.headers(), &self.clock);
        let (Some(lifetime), true) = (lifetime, fits) else {
            self.known.insert(key.to_owned(), Known::Passed(Instant::now() + PASSED));
            return Err(response);
        };
        let (head, body) = response.into_parts();
        // A body that breaks off has no error that would say more.
        let Ok(body) = actix_web::body::to_bytes(body).await else {
            return Err(HttpResponse::BadGateway().finish());
        };
        let now = Instant::now();
        let stored = Arc::new(Stored {
            status: head.status(),
            vary: policy::vary(head.headers(), request),
            age: policy::age(head.headers()),
            headers: head.headers().clone(),
            body,
            tag,
            stored_at: now,
            fresh_until: now + lifetime,
        });
        self.insert(key, &stored, purges);
        Ok(stored)
    }

    /// A stale answer was found to be the current one.
    pub fn refresh(
        &self,
        key: &str,
        target: &str,
        request: &HeaderMap,
        stale: &Stored,
        answer: &HeaderMap,
        purges: u64,
    ) -> Arc<Stored> {
        let mut headers = stale.headers.clone();
        for (name, value) in answer {
            if *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE && *name != CACHE_TAG {
                headers.insert(name.clone(), value.clone());
            }
        }
        let lifetime = policy::lifetime(target, request, stale.status, &headers, &self.clock);
        let now = Instant::now();
        let stored = Arc::new(Stored {
            status: stale.status,
            vary: stale.vary.clone(),
            age: policy::age(&headers),
            headers,
            body: stale.body.clone(),
            tag: stale.tag.clone(),
            stored_at: now,
            fresh_until: now + lifetime.unwrap_or_default(),
        });
        self.insert(key, &stored, purges);
        stored
    }

    fn insert(&self, key: &str, stored: &Arc<Stored>, purges: u64) {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the same lock as a purge: it comes before, and this is not kept, or behind, and finds it.
        if self.purges() != purges {
            return;
        }
        if let Some(tag) = &stored.tag {
            tags.entry(tag.clone()).or_default().insert(key.to_owned());
        }
        drop(tags);
        let others = match self.known.get(key) {
            Some(Known::Stored(variants)) => variants
                .iter()
                .filter(|other| other.vary != stored.vary)
                .take(VARIANTS - 1)
                .cloned()
                .collect(),
            _ => Vec::new(),
        };
        let variants = std::iter::once(Arc::clone(stored)).chain(others).collect();
        self.known.insert(key.to_owned(), Known::Stored(Arc::new(variants)));
        // A purge that came between the two.
        if self.purges() != purges {
            self.known.invalidate(key);
        }
    }

    /// Drops what is about this account.
    pub fn purge(&self, tag: &str) {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        self.purges.fetch_add(1, Ordering::AcqRel);
        let keys = tags.remove(tag);
        drop(tags);
        for key in keys.into_iter().flatten() {
            self.known.invalidate(&key);
        }
    }

    /// Drops everything: what changed meanwhile is not known.
    pub fn clear(&self) {
        self.purges.fetch_add(1, Ordering::AcqRel);
        self.known.invalidate_all();
    }
}

impl Stored {
    fn fits(&self, request: &HeaderMap) -> bool {
        self.vary.iter().all(|(name, value)| request.get(name) == value.as_ref())
    }

    /// Its validator.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(header::ETAG)
    }

    /// The answer to a request, whose own condition is looked at here.
    pub fn answer(&self, method: &Method, request: &HeaderMap, how: &'static str) -> HttpResponse {
        let unchanged = self.status == StatusCode::OK && policy::matches(request, self.etag());
        let size = u64::try_from(self.body.len()).unwrap_or(u64::MAX);
        let (status, body) = if unchanged {
            (StatusCode::NOT_MODIFIED, Untold(BodySize::None).boxed())
        } else if *method == Method::HEAD {
            (self.status, Untold(BodySize::Sized(size)).boxed())
        } else {
            (self.status, self.body.clone().boxed())
        };
        let mut response = HttpResponse::with_body(status, body);
        let headers = response.headers_mut();
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        let age = (self.age + self.stored_at.elapsed()).as_secs();
        headers.insert(header::AGE, HeaderValue::from(age));
        headers.insert(CACHE_STATUS, HeaderValue::from_static(how));
        response
    }
}

fn weight(key: &str, known: &Known) -> u32 {
    let bytes = match known {
        Known::Passed(_) => 0,
        Known::Stored(variants) => variants
            .iter()
            .map(|stored| {
                let fields =
                    stored.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
                stored.body.len() + fields.sum::<usize>() + 256
            })
            .sum(),
    };
    u32::try_from(bytes + key.len() + 128).unwrap_or(u32::MAX)
}

fn forget(index: &Mutex<HashMap<String, HashSet<String>>>, key: &str, known: &Known) {
    let Known::Stored(variants) = known else { return };
    let mut tags = index.lock().unwrap_or_else(PoisonError::into_inner);
    for tag in variants.iter().filter_map(|stored| stored.tag.as_deref()) {
        if let Some(keys) = tags.get_mut(tag) {
            keys.remove(key);
            if keys.is_empty() {
                tags.remove(tag);
            }
        }
    }
}
