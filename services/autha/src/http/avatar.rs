//! `PUT` and `DELETE /users/@me/avatar`, and the state of an upload. The body streams to the bucket; nothing holds it whole. Pictures that
//! reach the bucket without us are `direct`'s, and are taken in here.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, BytesMut, Data, Path, Payload},
};
use aws_lc_rs::digest::{Context, SHA256};
use futures_util::StreamExt;
use orrery_observability::trace::in_current;
use orrery_schemas::{
    ids::{AccountId, UploadId},
    problems::Code,
};
use orrery_web::problem::Problem;
use serde_json::json;
use tokio::sync::mpsc;

use super::{AppState, bearer, fault, trace};
use crate::{
    account::lookup::Account,
    http::upload_check::{Check, Format},
    picture::{MAX_BYTES, NewUpload, PREFIX, RemoveAvatar, ReplaceAvatar, status},
    session::principal::scope,
};

/// Chunks that may wait for the bucket; each is at most what one read of the socket gives.
const CHUNKS: usize = 2;

/// So much of a body is held until its header was seen; metadata may be longer, and is then looked through while the body streams.
const HELD_BYTES: usize = 64 * 1024;

/// Where a picture comes from.
pub enum Source {
    /// Its owner's request.
    Client(Payload),
    /// The bucket, into which its owner put it.
    Bucket(mpsc::Receiver<Result<Bytes, std::io::Error>>),
}

/// A body whose first bytes were seen to begin a picture.
struct Checked {
    start: Bytes,
    source: Source,
    /// Where the header has not ended yet.
    check: Option<Check>,
}

/// Takes a picture.
pub async fn put(
    request: HttpRequest,
    app: Data<AppState>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let account = bearer::principal(&request, &app, scope::WRITE_ACCOUNT).await?.account;
    let format = declared_format(&request)?;
    let size_bytes = declared_size(&request)?;
    admitted(&app, take(&request, &app, account, format, size_bytes, Source::Client(payload))).await
}

/// Has an upload done once it is its turn.
///
/// # Errors
/// 503 where too many wait already.
pub async fn admitted(
    app: &AppState,
    taking: impl Future<Output = Result<HttpResponse, Problem>>,
) -> Result<HttpResponse, Problem> {
    let upload = app.uploads.admit().await;
    let upload = upload.map_err(|_| fault::unavailable("too many pictures are being uploaded right now"))?;
    let taken = upload.run(taking).await;
    let answer = taken.map_err(|error| fault::send(&error))??;
    upload.done();
    Ok(answer)
}

/// Takes a picture that was admitted: checks its header, keeps it, and makes it the wanted one. It stays in the task of its request, whose
/// body cannot leave it.
///
/// # Errors
/// What is wrong with the picture, or that it cannot be kept.
pub async fn take(
    request: &HttpRequest,
    app: &AppState,
    account: Account,
    format: Format,
    size_bytes: u64,
    source: Source,
) -> Result<HttpResponse, Problem> {
    let checked = check_start(app, format, source).await?;

    let upload = UploadId(app.random.uuid_v7(&app.clock));
    let object_key = format!("{PREFIX}{}/{upload}/original.{}", account.id, format.extension());
    let digest = store(app, &object_key, format, size_bytes, checked).await?;
    let new = NewUpload {
        upload,
        account: AccountId(account.id),
        object_key,
        media_type: format.media_type(),
        size_bytes,
        digest,
    };
    let replace = ReplaceAvatar { upload: new, is_told: app.tells_of_uploads };
    app.perform(replace, trace::of(request, app), fault::change).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, app.links.of(&format!("/users/@me/avatar/uploads/{upload}"))))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({ "id": upload, "status": "pending" })))
}

/// Takes the picture away.
pub async fn delete(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let account = bearer::principal(&request, &app, scope::WRITE_ACCOUNT).await?.account;
    let remove = RemoveAvatar { account: AccountId(account.id) };
    app.perform(remove, trace::of(&request, &app), fault::change).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Tells how an upload fares.
pub async fn status(
    request: HttpRequest,
    app: Data<AppState>,
    upload: Path<String>,
) -> Result<HttpResponse, Problem> {
    let account = bearer::principal(&request, &app, scope::READ_ACCOUNT).await?.account;
    let absent = || Problem::new(Code::NotFound, "you have no such upload");
    let upload: UploadId = upload.parse().map_err(|_| absent())?;
    let status = app
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

async fn next(app: &AppState, source: &mut Source) -> Result<Option<Bytes>, Problem> {
    let payload = match source {
        Source::Client(payload) => payload,
        Source::Bucket(chunks) => {
            let chunk = chunks.recv().await.transpose();
            return chunk.map_err(|_| fault::unavailable("the picture could not be fetched"));
        }
    };
    match tokio::time::timeout(app.config.body_timeout, payload.next()).await {
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(_))) => Err(Problem::new(Code::Malformed, "the body broke off; send the picture again")),
        Ok(None) => Ok(None),
        Err(_) => {
            let detail =
                format!("no part of the body came for {:?}; send the picture again", app.config.body_timeout);
            Err(Problem::new(Code::Timeout, detail))
        }
    }
}

async fn check_start(app: &AppState, format: Format, mut source: Source) -> Result<Checked, Problem> {
    let mut start = BytesMut::new();
    let mut check = Check::new(format);
    loop {
        let Some(chunk) = next(app, &mut source).await? else {
            check.finish()?;
            return Ok(Checked { start: start.freeze(), source, check: None });
        };
        start.extend_from_slice(&chunk);
        if check.push(&chunk)? {
            return Ok(Checked { start: start.freeze(), source, check: None });
        }
        if start.len() >= HELD_BYTES {
            return Ok(Checked { start: start.freeze(), source, check: Some(check) });
        }
    }
}

/// The next chunk, looked at where the header has not ended yet.
async fn next_checked(
    app: &AppState,
    source: &mut Source,
    check: &mut Option<Check>,
) -> Result<Option<Bytes>, Problem> {
    let chunk = next(app, source).await?;
    if let Some(mut pending) = check.take() {
        match &chunk {
            Some(chunk) if !pending.push(chunk)? => *check = Some(pending),
            Some(_) => {}
            None => pending.finish()?,
        }
    }
    Ok(chunk)
}

/// Streams the body to the bucket; returns its SHA-256. The write goes on, or fails, on the main runtime, whatever becomes of the caller.
async fn store(
    app: &AppState,
    key: &str,
    format: Format,
    size_bytes: u64,
    checked: Checked,
) -> Result<String, Problem> {
    let Checked { start, mut source, mut check } = checked;
    let (chunks, received) = mpsc::channel::<Result<Bytes, std::io::Error>>(CHUNKS);
    let (objects, key) = (app.objects.clone(), key.to_owned());
    let written = app.main.spawn(in_current(async move {
        objects.put_stream(&key, format.media_type(), size_bytes, received).await
    }));
    let mut digest = Context::new(&SHA256);
    let mut chunk = Some(start);
    let mut fault = None;
    while let Some(bytes) = chunk {
        // The next one is looked at before this one is sent: a body that is refused at its end must not be whole in the bucket.
        chunk = match next_checked(app, &mut source, &mut check).await {
            Ok(chunk) => chunk,
            Err(problem) => {
                let _gone = chunks.send(Err(std::io::ErrorKind::UnexpectedEof.into())).await.is_err();
                fault = Some(problem);
                break;
            }
        };
        digest.update(&bytes);
        match tokio::time::timeout(app.objects.timeout(), chunks.send(Ok(bytes))).await {
            Ok(Ok(())) => {}
            // The bucket gave up: its error tells why.
            Ok(Err(_)) => break,
            Err(_) => {
                written.abort();
                return Err(fault::unavailable("pictures cannot be kept right now"));
            }
        }
    }
    drop(chunks);
    let aborter = written.abort_handle();
    let Ok(written) = tokio::time::timeout(app.objects.timeout(), written).await else {
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
