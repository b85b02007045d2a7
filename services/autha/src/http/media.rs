//! Pictures as everybody sees them: `/avatars/{id}` leads to a variant, whose address holds its digest and never changes.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data, Path, Query},
};
use orrery_observability::trace::in_current;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde::Deserialize;
use uuid::Uuid;

use super::{AppState, fault, profile};
use crate::{
    account::lookup,
    picture::{
        delivery::{Span, Wanted, wanted},
        placeholder::svg,
    },
};

/// The largest variant that is served.
const LIMIT_BYTES: u64 = 4 * 1024 * 1024;
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// The wanted size.
#[derive(Deserialize)]
pub struct Size {
    /// Width and height in pixels; the smallest variant that is not smaller is given.
    size: Option<String>,
}

/// Leads to the current picture.
pub async fn current(
    app: Data<AppState>,
    id: Path<String>,
    wanted: Query<Size>,
) -> Result<HttpResponse, Problem> {
    let size = match &wanted.size {
        None => i32::MAX,
        Some(text) => text.parse::<i32>().ok().filter(|size| *size > 0).ok_or_else(|| {
            Problem::field(
                Code::InvalidField,
                "size",
                "invalid_size",
                "'size' must be a number of pixels, such as 256",
            )
        })?,
    };
    let account = profile::by_id(&app, &id).await?;
    let icons = profile::icons(&app, &account).await?;
    // Largest first: the last that is large enough is the smallest of those.
    let icon = icons.iter().rev().find(|icon| icon.width >= size).or_else(|| icons.first());
    let Some(icon) = icon else { return Ok(placeholder(&account.username)) };
    let mut answer = HttpResponse::Found()
        .insert_header((header::LOCATION, app.links.picture(icon.public, icon.width)))
        .insert_header((header::CACHE_CONTROL, "public, max-age=60"))
        .finish();
    profile::tag(&mut answer, &account);
    Ok(answer)
}

/// One variant. Whether it is there is looked up first, whatever the client has already.
pub async fn variant(
    request: HttpRequest,
    app: Data<AppState>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (picture, file) = path.into_inner();
    let absent = || Problem::new(Code::NotFound, "no picture is here");
    let picture: Uuid = picture.parse().map_err(|_| absent())?;
    let width = file.strip_suffix(".webp").filter(|width| is_width(width)).ok_or_else(absent)?;
    let width: i32 = width.parse().map_err(|_| absent())?;
    let stored = app
        .pool
        .run(move |mut connection| async move { lookup::picture(&mut connection, picture, width).await })
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
    let (objects, key) = (app.objects.clone(), stored.object_key.clone());
    let body = app
        .main
        .spawn(in_current(async move { objects.get(&key, LIMIT_BYTES).await }))
        .await
        .map_err(|_| fault::unavailable("the picture could not be fetched"))?
        .map_err(|error| fault::objects(&error))?;
    Ok(part(&request, &stored.media_type, &etag, &body))
}

/// What is shown of people without a picture. It is an SVG of ours, and may do nothing all the same.
fn placeholder(name: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("image/svg+xml")
        .insert_header((header::CACHE_CONTROL, "public, max-age=60"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(svg(name))
}

/// A body that never changes, or the part of it that is asked for (RFC 9110, 14 and 13.1.5).
fn part(request: &HttpRequest, media_type: &str, etag: &str, body: &Bytes) -> HttpResponse {
    let text = |name| request.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    // A part of another body is of no use to who asks for this one.
    let is_same = text(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let wanted = wanted(text(header::RANGE).filter(|_| is_same), body.len());
    let (mut response, body) = match wanted {
        Wanted::All => (HttpResponse::Ok(), body.clone()),
        Wanted::Part(Span { first, last }) => {
            let mut response = HttpResponse::PartialContent();
            response.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", body.len())));
            (response, body.slice(first..=last))
        }
        Wanted::Nothing => {
            let range = format!("bytes */{}", body.len());
            return HttpResponse::RangeNotSatisfiable()
                .insert_header((header::CONTENT_RANGE, range))
                .finish();
        }
    };
    response
        .content_type(media_type)
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, IMMUTABLE))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(body)
}

/// One spelling of one number, so that a picture has one address.
fn is_width(text: &str) -> bool {
    (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0')
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
    fn a_width_has_one_spelling() {
        assert!(is_width("512"));
        for text in ["", "0", "064", "+64", "-1", "12345", "original", "../x"] {
            assert!(!is_width(text), "{text}");
        }
    }
}
