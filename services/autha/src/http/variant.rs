//! `/avatars/{picture}/{file}`: one variant, which never changes, streamed from the bucket. What leads there lives in `media`.

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::{Method, header},
    web::{Bytes, Data, Path},
};
use futures_util::stream;
use orrery_objects::{ObjectError, Opened};
use orrery_observability::trace::in_current;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use tokio::sync::mpsc;
use tracing::warn;
use uuid::Uuid;

use super::{AppState, fault};
use crate::{
    account::lookup,
    picture::delivery::{Format, Span, Wanted, wanted},
};

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Chunks that may wait for who takes them; each is at most what one read of the bucket's socket gives.
const CHUNKS: usize = 2;

/// One variant. Whether it is there is looked up first, whatever the client has already.
pub async fn variant(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (picture, file) = path.into_inner();
    let absent = || Problem::new(Code::NotFound, "no picture is here");
    let picture: Uuid = picture.parse().map_err(|_| absent())?;
    let (width, format) = named(&file).ok_or_else(absent)?;
    let stored =
        app.pool
            .run(move |mut connection| async move {
                lookup::picture(&mut connection, picture, width, format).await
            })
            .await
            .map_err(|error| fault::store(&error))?
            .ok_or_else(absent)?;
    let name =
        stored.object_key.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
    let etag = format!("\"{name}\"");
    if matches(&request, &etag) {
        return Ok(HttpResponse::NotModified()
            .insert_header((header::ETAG, etag))
            .insert_header((header::CACHE_CONTROL, IMMUTABLE))
            .finish());
    }
    let total = stored.size_bytes;
    let text = |name| request.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    // A part of another body is of no use to who asks for this one (RFC 9110, 13.1.5).
    let is_same = text(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let (mut response, span) = match wanted(text(header::RANGE).filter(|_| is_same), total) {
        Wanted::All => (HttpResponse::Ok(), None),
        Wanted::Part(span @ Span { first, last }) => {
            let mut response = HttpResponse::PartialContent();
            response.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{last}/{total}")));
            (response, Some(span))
        }
        Wanted::Nothing => {
            return Ok(HttpResponse::RangeNotSatisfiable()
                .insert_header((header::CONTENT_RANGE, format!("bytes */{total}")))
                .finish());
        }
    };
    response
        .content_type(format.media_type())
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, IMMUTABLE))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    let length = span.map_or(total, |Span { first, last }| last - first + 1);
    if request.method() == Method::HEAD {
        // Only the length of it is told.
        return Ok(response.body(SizedStream::new(length, stream::empty::<Result<Bytes, std::io::Error>>())));
    }
    let opened = opened(&app, stored.object_key, span, length).await?;
    let chunks = stream::unfold(chunks(&app, opened), |mut chunks| async move {
        chunks.recv().await.map(|chunk| (chunk, chunks))
    });
    Ok(response.body(SizedStream::new(length, Box::pin(chunks))))
}

/// Opens the object, or the part of it: that part is all that is asked of the bucket.
async fn opened(app: &AppState, key: String, span: Option<Span>, length: u64) -> Result<Opened, Problem> {
    let objects = app.objects.clone();
    let opening = async move { objects.open(&key, span.map(|Span { first, last }| first..=last)).await };
    let opened = app
        .main
        .spawn(in_current(opening))
        .await
        .map_err(|_| fault::unavailable("the picture could not be fetched"))?
        .map_err(|error| fault::objects(&error))?;
    if opened.size_bytes == length {
        return Ok(opened);
    }
    let found = opened.size_bytes;
    Err(fault::objects(&ObjectError::Refused(format!(
        "{found} bytes of a picture came in place of {length}"
    ))))
}

/// The bytes of an object as they come, no faster than they are taken. The clients of the bucket belong to the main runtime.
pub fn chunks(app: &AppState, mut opened: Opened) -> mpsc::Receiver<Result<Bytes, std::io::Error>> {
    let (chunks, received) = mpsc::channel(CHUNKS);
    let limit = app.objects.timeout();
    app.main.spawn(in_current(async move {
        loop {
            let silent = |_| ObjectError::Unavailable(format!("no part of the object came within {limit:?}"));
            let next = tokio::time::timeout(limit, opened.next()).await.map_err(silent).flatten();
            let chunk = match next {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => return,
                Err(error) => {
                    warn!(%error, "a picture broke off on its way from the bucket");
                    Err(std::io::Error::other(error))
                }
            };
            let is_last = chunk.is_err();
            // Who has gone needs no more of it.
            if chunks.send(chunk).await.is_err() || is_last {
                return;
            }
        }
    }));
    received
}

/// Width and format of a name such as `256.webp`. A width has one spelling, so that a picture has one address.
fn named(file: &str) -> Option<(i32, Format)> {
    let (width, extension) = file.split_once('.')?;
    let is_width = (1..=5).contains(&width.len())
        && width.bytes().all(|byte| byte.is_ascii_digit())
        && !width.starts_with('0');
    let format = Format::of_extension(extension)?;
    is_width.then(|| Some((width.parse().ok()?, format))).flatten()
}

/// Whether the client has it already (RFC 9110, If-None-Match, weak comparison).
fn matches(request: &HttpRequest, etag: &str) -> bool {
    request.headers().get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_one_address() {
        assert_eq!(named("512.webp"), Some((512, Format::WebP)));
        assert_eq!(named("16383.jpg"), Some((16_383, Format::Jpeg)));
        for text in [
            "",
            ".webp",
            "0.webp",
            "064.webp",
            "+64.webp",
            "-1.webp",
            "123456.webp",
            "original.webp",
            "../x",
            "64",
            "64.png",
            "64.jpeg",
            "64.WEBP",
            "64.webp.jpg",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
    }
}
