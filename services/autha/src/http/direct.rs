//! `/users/@me/avatar/upload`: a picture that its owner puts straight into the bucket, by an address that is signed for it, and that is taken
//! in at a second request. What is taken in is looked at as what comes by `PUT` is, in `avatar`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Payload},
};
use chrono::SecondsFormat;
use orrery_observability::trace::in_current;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde_json::json;
use tracing::warn;
use uuid::Uuid;

use super::{
    AppState,
    avatar::{self, Source},
    bearer, body, fault,
    fields::Reader,
    upload_check::Format,
    variant,
};
use crate::{
    account::lookup::Account,
    picture::{MAX_BYTES, incoming},
    session::principal::scope,
};

/// Gives the address.
pub async fn ask(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let account = bearer::principal(&request, &app, scope::WRITE_ACCOUNT).await?.account;
    if !app.objects.is_public() {
        let detail = "this instance takes no pictures past it; send the picture to /users/@me/avatar by PUT";
        return Err(Problem::new(Code::NotFound, detail));
    }
    let mut fields = Reader::new(body::json(&request, payload).await?);
    let format = media_type(&mut fields);
    let size_bytes = size(&mut fields);
    fields.finish()?;
    let (Some(format), Some(size_bytes)) = (format, size_bytes) else {
        return Err(Problem::new(Code::InvalidField, "'mediaType' and 'sizeBytes' are needed"));
    };

    let id = app.random.uuid_v7(&app.clock);
    let key = format!("{}{}", stem(&app, &account, id)?, format.extension());
    let lifetime = app.config.upload_lifetime;
    let until = app.clock.now() + lifetime;
    let objects = app.objects.clone();
    let signing = async move { objects.presign_put(&key, format.media_type(), size_bytes, lifetime).await };
    let url = on_main(&app, signing).await?.map_err(|error| fault::objects(&error))?;
    Ok(HttpResponse::Created().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({
        "id": id,
        "method": "PUT",
        "url": url,
        "headers": { "Content-Type": format.media_type(), "Content-Length": size_bytes.to_string() },
        "expiresAt": until.to_rfc3339_opts(SecondsFormat::Secs, true),
        "completeUrl": app.links.of(&format!("/users/@me/avatar/upload/{id}")),
    })))
}

/// Takes in what was put there.
pub async fn complete(
    request: HttpRequest,
    app: Data<AppState>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let account = bearer::principal(&request, &app, scope::WRITE_ACCOUNT).await?.account;
    let id: Uuid = id.parse().map_err(|_| absent())?;
    if incoming::is_over(id, app.config.upload_lifetime, app.clock.now()) {
        return Err(absent());
    }
    // Of somebody else's account there is nothing under this stem.
    let stem = stem(&app, &account, id)?;
    avatar::admitted(&app, take_in(&request, &app, account, stem)).await
}

async fn take_in(
    request: &HttpRequest,
    app: &AppState,
    account: Account,
    stem: String,
) -> Result<HttpResponse, Problem> {
    let objects = app.objects.clone();
    let finding = async move {
        let page = objects.list(&stem, None).await?;
        let Some(found) = page.objects.into_iter().next() else { return Ok(None) };
        objects.open(&found.key, None).await.map(|opened| Some((found.key, opened)))
    };
    let found = on_main(app, finding).await?.map_err(|error| fault::objects(&error))?;
    let (key, opened) = found.ok_or_else(absent)?;
    let size_bytes = opened.size_bytes;
    let format = key.rsplit('.').next().and_then(Format::of_extension).ok_or_else(absent)?;
    let taken = if size_bytes > MAX_BYTES {
        let message = format!("the picture has {size_bytes} bytes; at most {MAX_BYTES} are taken");
        Err(Problem::field(Code::TooLarge, "body", "too_large", message))
    } else {
        let source = Source::Bucket(variant::chunks(app, opened));
        avatar::take(request, app, account, format, size_bytes, source).await
    };
    // What is no picture will be none at the next request either.
    let is_settled = match &taken {
        Ok(_) => true,
        Err(problem) => matches!(problem.code(), Code::InvalidField | Code::TooLarge),
    };
    if is_settled {
        let objects = app.objects.clone();
        let removed = on_main(app, async move { objects.delete(&[key]).await }).await?;
        if let Err(error) = removed {
            // The sweeper takes it.
            warn!(%error, "an incoming picture is still there");
        }
    }
    taken
}

fn media_type(fields: &mut Reader) -> Option<Format> {
    let text = fields.required("mediaType")?;
    let format = Format::of_media_type(&text);
    if format.is_none() {
        let message = "'mediaType' must be image/jpeg, image/png, image/webp or image/gif";
        fields.fault("mediaType", "unsupported", message);
    }
    format
}

fn size(fields: &mut Reader) -> Option<u64> {
    let Some(value) = fields.any("sizeBytes") else {
        fields.fault("sizeBytes", "missing", "'sizeBytes' is missing; tell the picture's size");
        return None;
    };
    let size = value.as_u64().filter(|size| (1..=MAX_BYTES).contains(size));
    if size.is_none() {
        let message = format!("'sizeBytes' must be a number from 1 to {MAX_BYTES}");
        fields.fault("sizeBytes", "invalid_size", message);
    }
    size
}

fn stem(app: &AppState, account: &Account, id: Uuid) -> Result<String, Problem> {
    let owner = app.vault.incoming.mac(account.id.as_bytes()).map_err(|error| fault::seal(&error))?;
    Ok(incoming::stem(&owner, id))
}

fn absent() -> Problem {
    let detail =
        "nothing is here: it was not uploaded, was taken in already, or is too old; ask for a new address";
    Problem::new(Code::NotFound, detail)
}

/// Asks the bucket on the runtime that owns its client.
async fn on_main<T: Send + 'static>(
    app: &AppState,
    asking: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let asked = app.main.spawn(in_current(asking)).await;
    asked.map_err(|_| fault::unavailable("pictures cannot be kept right now"))
}
