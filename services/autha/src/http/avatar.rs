//! `PUT` and `DELETE /users/@me/avatar`, and the state of an upload. The body streams to the bucket; nothing holds it whole.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, BytesMut, Data, Path, Payload},
};
use aws_lc_rs::digest::{Context, SHA256};
use futures_util::StreamExt;
use orrery_actors::web::problem::Problem;
use orrery_schemas::{
    ids::{AccountId, UploadId},
    problems::Code,
};
use serde_json::json;
use tokio::sync::mpsc;

use super::{ACTOR_LIMIT, Desk, bearer, fault, trace};
use crate::{
    account::actor::{RemoveAvatar, ReplaceAvatar},
    picture::{
        MAX_BYTES, NewUpload, PREFIX,
        header::{Format, check},
        status,
    },
};

/// Chunks that may wait for the bucket; each is at most what one read of the socket gives.
const CHUNKS: usize = 2;

/// A body whose first bytes were seen to begin a picture.
struct Checked {
    start: Bytes,
    payload: Payload,
}

/// Takes a picture.
pub async fn put(request: HttpRequest, desk: Data<Desk>, payload: Payload) -> Result<HttpResponse, Problem> {
    let account = bearer::account(&request, &desk).await?;
    let format = declared_format(&request)?;
    let size_bytes = declared_size(&request)?;
    let _place = desk
        .uploads
        .try_acquire()
        .map_err(|_| fault::unavailable("too many pictures are being uploaded right now"))?;
    let checked = check_start(&desk, format, payload).await?;

    let upload = UploadId(desk.random.uuid_v7(&desk.clock));
    let object_key = format!("{PREFIX}{}/{upload}/original.{}", account.id, format.extension());
    let digest = store(&desk, &object_key, format, size_bytes, checked).await?;
    let replace = ReplaceAvatar(NewUpload {
        upload,
        account: AccountId(account.id),
        object_key,
        media_type: format.media_type(),
        size_bytes,
        digest,
        trace: trace::of(&request, &desk),
        now: desk.clock.now(),
    });
    desk.accounts
        .send(replace, ACTOR_LIMIT)
        .await
        .map_err(|error| fault::send(&error))?
        .map_err(|error| fault::store(&error))?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("/users/@me/avatar/uploads/{upload}")))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({ "id": upload, "status": "pending" })))
}

/// Takes the picture away.
pub async fn delete(request: HttpRequest, desk: Data<Desk>) -> Result<HttpResponse, Problem> {
    let account = bearer::account(&request, &desk).await?;
    let remove = RemoveAvatar {
        account: AccountId(account.id),
        trace: trace::of(&request, &desk),
        now: desk.clock.now(),
    };
    desk.accounts
        .send(remove, ACTOR_LIMIT)
        .await
        .map_err(|error| fault::send(&error))?
        .map_err(|error| fault::store(&error))?;
    Ok(HttpResponse::NoContent().finish())
}

/// Tells how an upload fares.
pub async fn status(
    request: HttpRequest,
    desk: Data<Desk>,
    upload: Path<String>,
) -> Result<HttpResponse, Problem> {
    let account = bearer::account(&request, &desk).await?;
    let absent = || Problem::new(Code::NotFound, "you have no such upload");
    let upload: UploadId = upload.parse().map_err(|_| absent())?;
    let status = desk
        .pool
        .run(move |mut connection| async move {
            status::status(&mut connection, AccountId(account.id), upload).await
        })
        .await
        .map_err(|error| fault::store(&error))?
        .ok_or_else(absent)?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "private, no-store")).json(status))
}

fn declared_format(request: &HttpRequest) -> Result<Format, Problem> {
    let declared = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    declared.and_then(Format::of_media_type).ok_or_else(|| {
        Problem::field(
            Code::UnsupportedMediaType,
            "Content-Type",
            "unsupported",
            "send the picture itself, with Content-Type: image/jpeg, image/png, image/webp or image/gif",
        )
    })
}

fn declared_size(request: &HttpRequest) -> Result<u64, Problem> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let size = declared.and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| {
        Problem::field(
            Code::LengthRequired,
            "Content-Length",
            "missing",
            "tell the picture's size with Content-Length; a chunked body is not taken",
        )
    })?;
    if size > MAX_BYTES {
        let message = format!("the picture has {size} bytes; at most {MAX_BYTES} are taken");
        return Err(Problem::field(Code::TooLarge, "body", "too_large", message));
    }
    Ok(size)
}

async fn next(desk: &Desk, payload: &mut Payload) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(desk.config.body_timeout, payload.next()).await {
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(_))) => Err(Problem::new(Code::Malformed, "the body broke off; send the picture again")),
        Ok(None) => Ok(None),
        Err(_) => {
            let detail = format!(
                "no part of the body came for {:?}; send the picture again",
                desk.config.body_timeout
            );
            Err(Problem::new(Code::Timeout, detail))
        }
    }
}

async fn check_start(desk: &Desk, format: Format, mut payload: Payload) -> Result<Checked, Problem> {
    let mut start = BytesMut::new();
    loop {
        let Some(chunk) = next(desk, &mut payload).await? else {
            check(format, &start, true)?;
            return Ok(Checked { start: start.freeze(), payload });
        };
        start.extend_from_slice(&chunk);
        if check(format, &start, false)? {
            return Ok(Checked { start: start.freeze(), payload });
        }
    }
}

/// Streams the body to the bucket; returns its SHA-256. The write goes on, or fails, on the main runtime, whatever becomes of the caller.
async fn store(
    desk: &Desk,
    key: &str,
    format: Format,
    size_bytes: u64,
    checked: Checked,
) -> Result<String, Problem> {
    let Checked { start, mut payload } = checked;
    let (chunks, received) = mpsc::channel::<Result<Bytes, std::io::Error>>(CHUNKS);
    let (objects, key) = (desk.objects.clone(), key.to_owned());
    let written = desk
        .main
        .spawn(async move { objects.put_stream(&key, format.media_type(), size_bytes, received).await });
    let mut digest = Context::new(&SHA256);
    let mut chunk = Some(start);
    let mut fault = None;
    while let Some(bytes) = chunk {
        digest.update(&bytes);
        match tokio::time::timeout(desk.objects.timeout(), chunks.send(Ok(bytes))).await {
            Ok(Ok(())) => {}
            // The bucket gave up: its error tells why.
            Ok(Err(_)) => break,
            Err(_) => {
                written.abort();
                return Err(fault::unavailable("pictures cannot be kept right now"));
            }
        }
        chunk = match next(desk, &mut payload).await {
            Ok(chunk) => chunk,
            Err(problem) => {
                let _gone = chunks.send(Err(std::io::ErrorKind::UnexpectedEof.into())).await.is_err();
                fault = Some(problem);
                None
            }
        };
    }
    drop(chunks);
    let aborter = written.abort_handle();
    let Ok(written) = tokio::time::timeout(desk.objects.timeout(), written).await else {
        aborter.abort();
        return Err(fault::unavailable("pictures cannot be kept right now"));
    };
    let written = written.map_err(|_| fault::unavailable("the picture could not be kept"))?;
    if let Some(problem) = fault {
        return Err(problem);
    }
    written.map_err(|error| fault::objects(&error))?;
    Ok(hex::encode(digest.finish()))
}
