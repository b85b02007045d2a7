//! The endpoints of a partner: made, asked by the handshake, changed, enabled again, and what they did not take.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Payload, Query},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Utc};
use diesel_async::AsyncConnection as _;
use orrery_schemas::problems::Code;
use orrery_store::StoreError;
use orrery_web::problem::Problem;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    AppState, bearer, body,
    directory::Known,
    fault,
    fields::{Given, Page, shown},
    private,
};
use crate::{
    deliver::{handshake, signature::Secret},
    operator::{CommandError, which},
    records::{
        deliveries,
        endpoints::{self, Endpoint},
    },
    token::scope,
};

/// The partner of a request, and its endpoint of that id.
async fn own(request: &HttpRequest, app: &AppState, id: &str) -> Result<(Arc<Known>, Endpoint), Problem> {
    let known = bearer::partner(request, app, scope::SUBSCRIBE).await?;
    let not_found = || Problem::new(Code::NotFound, "this client has no endpoint of that id");
    let id: Uuid = id.parse().map_err(|_| not_found())?;
    let partner = known.partner.id;
    let endpoint = app
        .pool
        .run(move |mut connection| async move { endpoints::of(&mut connection, partner, id).await })
        .await
        .map_err(|error| fault::store(&error))?;
    Ok((known, endpoint.ok_or_else(not_found)?))
}

/// Its endpoints.
pub async fn list(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let known = bearer::partner(&request, &app, scope::SUBSCRIBE).await?;
    let partner = known.partner.id;
    let endpoints = app
        .pool
        .run(move |mut connection| async move { endpoints::list(&mut connection, Some(partner)).await })
        .await
        .map_err(|error| fault::store(&error))?;
    Ok(private(json!({ "endpoints": endpoints.iter().map(shown).collect::<Vec<_>>() })))
}

/// One of them.
pub async fn show(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (_, endpoint) = own(&request, &app, &path).await?;
    let id = endpoint.id;
    let (waiting, dead) = app
        .pool
        .run(move |mut connection| async move {
            let waiting = deliveries::count(&mut connection, id, "retry").await?;
            Ok::<_, StoreError>((waiting, deliveries::count(&mut connection, id, "dead").await?))
        })
        .await
        .map_err(|error| fault::store(&error))?;
    let mut shown = shown(&endpoint);
    if let Some(object) = shown.as_object_mut() {
        object.insert("waiting".to_owned(), waiting.into());
        object.insert("dead_letters".to_owned(), dead.into());
    }
    Ok(private(shown))
}

/// What a receiver confirms the handshake by, and its digest.
fn confirmation(app: &AppState) -> (String, Vec<u8>) {
    let secret = BASE64.encode(app.random.bytes::<32>());
    let digest = orrery_seal::sha256(secret.as_bytes());
    (secret, digest)
}

/// Makes an endpoint and asks its receiver.
pub async fn create(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let known = bearer::partner(&request, &app, scope::SUBSCRIBE).await?;
    let given: Given = body::json(&request, payload).await?;
    let settings = given.settings(&app, None)?;
    let id = app.random.uuid_v7(&app.clock);
    let secret = Secret::fresh(&app.random);
    let sealed = secret.sealed(&app.vault.secrets, id).map_err(|error| fault::internal(&error))?;
    let (confirm, digest) = confirmation(&app);
    let own_limit = known.partner.max_endpoints.map(i64::from);
    let most = own_limit.unwrap_or_else(|| i64::from(app.config.max_endpoints));
    let partner = known.partner.id;
    let made = app
        .pool
        .run(move |mut connection| async move {
            connection
                .transaction::<_, StoreError, _>(async |connection| {
                    if endpoints::count(connection, partner).await? >= most {
                        return Ok(false);
                    }
                    endpoints::create(connection, id, partner, &settings, &sealed, &digest).await?;
                    Ok(true)
                })
                .await
        })
        .await
        .map_err(|error| fault::store(&error))?;
    if !made {
        let detail = format!("this client may have {most} endpoints; remove one first");
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let endpoint = ask(&app, partner, id, &confirm).await?;
    let mut answer = shown(&endpoint);
    if let Some(object) = answer.as_object_mut() {
        object.insert("secret".to_owned(), secret.shown().as_str().into());
    }
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .insert_header((header::LOCATION, format!("/partners/endpoints/{id}")))
        .json(answer))
}

/// Asks the receiver of a pending endpoint whether it takes events from us, and writes down what it said.
async fn ask(app: &AppState, partner: Uuid, id: Uuid, confirm: &str) -> Result<Endpoint, Problem> {
    let find = move || {
        app.pool.run(move |mut connection| async move { endpoints::of(&mut connection, partner, id).await })
    };
    let gone = || Problem::new(Code::NotFound, "the endpoint was removed meanwhile");
    let endpoint = find().await.map_err(|error| fault::store(&error))?.ok_or_else(gone)?;
    if endpoint.state != "pending" {
        return Ok(endpoint);
    }
    let base = app.config.public_url.as_str().trim_end_matches('/').to_owned();
    let callback = format!("{base}/partners/endpoints/{id}/confirm/{confirm}");
    let (gate, origin) = (app.gate.clone(), app.config.origin().to_owned());
    // On the runtime that owns the client, and to its end: a request that is given up asks nobody twice.
    let asked = app
        .main
        .spawn(async move { handshake::ask(&gate, &endpoint.url, &origin, &callback, endpoint.rate).await });
    let answer = asked.await.map_err(|error| fault::internal(&error))?;
    app.pool
        .run(move |mut connection| async move {
            let answer = answer.as_ref().map(|rate| *rate).map_err(String::as_str);
            endpoints::set_handshake(&mut connection, id, answer).await
        })
        .await
        .map_err(|error| fault::store(&error))?;
    app.changed.ring();
    find().await.map_err(|error| fault::store(&error))?.ok_or_else(gone)
}

/// Changes an endpoint; another url is asked again.
pub async fn change(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (known, endpoint) = own(&request, &app, &path).await?;
    let given: Given = body::json(&request, payload).await?;
    let settings = given.settings(&app, Some(&endpoint))?;
    let (id, (confirm, digest)) = (endpoint.id, confirmation(&app));
    app.pool
        .run(move |mut connection| async move {
            endpoints::change(&mut connection, id, &settings, &digest).await
        })
        .await
        .map_err(|error| fault::store(&error))?;
    app.changed.ring();
    let endpoint = ask(&app, known.partner.id, id, &confirm).await?;
    Ok(private(shown(&endpoint)))
}

/// Removes an endpoint.
pub async fn remove(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (_, endpoint) = own(&request, &app, &path).await?;
    let id = endpoint.id;
    app.pool
        .run(move |mut connection| async move { endpoints::remove(&mut connection, id).await })
        .await
        .map_err(|error| fault::store(&error))?;
    app.changed.ring();
    Ok(HttpResponse::NoContent().finish())
}

/// Asks the receiver again.
pub async fn handshake(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (known, endpoint) = own(&request, &app, &path).await?;
    let (id, (confirm, digest)) = (endpoint.id, confirmation(&app));
    app.pool
        .run(move |mut connection| async move { endpoints::set_confirmation(&mut connection, id, &digest).await })
        .await
        .map_err(|error| fault::store(&error))?;
    Ok(private(shown(&ask(&app, known.partner.id, id, &confirm).await?)))
}

/// What the receiver adds when it confirms.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Confirmed {
    #[serde(rename = "WebHook-Allowed-Rate")]
    rate: Option<String>,
}

/// The receiver allows deliveries by opening the callback.
pub async fn confirm(
    app: Data<AppState>,
    path: Path<(String, String)>,
    request: HttpRequest,
    query: Query<Confirmed>,
) -> Result<HttpResponse, Problem> {
    let (id, secret) = path.into_inner();
    let not_found = || Problem::new(Code::NotFound, "there is nothing to confirm here (any more)");
    let id: Uuid = id.parse().map_err(|_| not_found())?;
    let header = request.headers().get("webhook-allowed-rate").and_then(|value| value.to_str().ok());
    let rate = handshake::rate(header.or(query.rate.as_deref()));
    let rate = rate.map_err(|error| Problem::new(Code::Malformed, error))?;
    let confirmed = app
        .pool
        .run(
            move |mut connection| async move { endpoints::confirm(&mut connection, id, &secret, rate).await },
        )
        .await
        .map_err(|error| fault::store(&error))?;
    if !confirmed {
        return Err(not_found());
    }
    app.changed.ring();
    Ok(HttpResponse::NoContent().finish())
}

/// Delivers again to an endpoint that was disabled; its receiver is asked first where it has not allowed that yet.
pub async fn enable(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (known, endpoint) = own(&request, &app, &path).await?;
    let (id, (confirm, digest)) = (endpoint.id, confirmation(&app));
    app.pool
        .run(move |mut connection| async move {
            endpoints::enable(&mut connection, id, false).await?;
            endpoints::set_confirmation(&mut connection, id, &digest).await
        })
        .await
        .map_err(|error| fault::store(&error))?;
    app.changed.ring();
    let endpoint = ask(&app, known.partner.id, id, &confirm).await?;
    if endpoint.held {
        let detail = "an operator disabled this endpoint; ask the operator to enable it";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    Ok(private(shown(&endpoint)))
}

/// Gives an endpoint another secret; the one before signs too for a while.
pub async fn rotate_secret(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (_, endpoint) = own(&request, &app, &path).await?;
    let secret = Secret::fresh(&app.random);
    let sealed = secret.sealed(&app.vault.secrets, endpoint.id).map_err(|error| fault::internal(&error))?;
    let overlap = app.config.secret_overlap;
    let id = endpoint.id;
    app.pool
        .run(move |mut connection| async move {
            endpoints::rotate_secret(&mut connection, id, &sealed, overlap.as_secs_f64()).await
        })
        .await
        .map_err(|error| fault::store(&error))?;
    app.changed.ring();
    Ok(private(json!({ "id": id, "secret": secret.shown().as_str(), "overlap_seconds": overlap.as_secs() })))
}

/// What an endpoint did not take for good.
pub async fn dead_letters(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
    page: Query<Page>,
) -> Result<HttpResponse, Problem> {
    let (_, endpoint) = own(&request, &app, &path).await?;
    let (after, limit) = (page.position()?.unwrap_or_default(), Page::limit(&page, 1_000)?);
    let letters = app.operator(None).dead_letters(endpoint.id, after, limit).await;
    Ok(private(json!({ "dead_letters": letters.map_err(|error| fault::command(&error))? })))
}

/// Which dead letters are delivered again.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replay {
    position: Option<i64>,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    all: bool,
}

/// Delivers dead letters again.
pub async fn replay(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (_, endpoint) = own(&request, &app, &path).await?;
    let replay: Replay = body::json(&request, payload).await?;
    let replayed = async {
        let which = which(replay.position, replay.from, replay.until, replay.all)?;
        app.operator(None).replay(endpoint.id, which).await
    };
    let replayed = replayed.await.map_err(|error: CommandError| fault::command(&error))?;
    app.changed.ring();
    Ok(private(json!({ "replayed": replayed })))
}
