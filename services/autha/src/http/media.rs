//! Pictures as everybody sees them: `/avatars/{id}` leads to a variant, whose address holds its digest and never changes.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Query},
};
use orrery_actors::web::problem::Problem;
use orrery_schemas::{
    ids::{AccountId, UploadId},
    problems::Code,
};
use serde::Deserialize;

use super::{Desk, fault, profile};
use crate::picture::PREFIX;

/// The largest variant that is served.
const LIMIT_BYTES: u64 = 4 * 1024 * 1024;
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// The wanted size.
#[derive(Deserialize)]
pub struct Wanted {
    /// Width and height in pixels; the smallest variant that is not smaller is given.
    size: Option<String>,
}

/// Leads to the current picture.
pub async fn current(
    desk: Data<Desk>,
    id: Path<String>,
    wanted: Query<Wanted>,
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
    let (_, icons) = profile::by_id(&desk, &id).await?;
    // Largest first: the last that is large enough is the smallest of those.
    let icon = icons.iter().rev().find(|icon| icon.width >= size).or_else(|| icons.first());
    let icon = icon.ok_or_else(|| Problem::new(Code::NotFound, "this account has no picture"))?;
    Ok(HttpResponse::Found()
        .insert_header((header::LOCATION, format!("/{}", icon.object_key)))
        .insert_header((header::CACHE_CONTROL, "public, max-age=60"))
        .finish())
}

/// One variant.
pub async fn variant(
    request: HttpRequest,
    desk: Data<Desk>,
    path: Path<(String, String, String)>,
) -> Result<HttpResponse, Problem> {
    let (account, upload, file) = path.into_inner();
    let absent = || Problem::new(Code::NotFound, "no picture is here");
    let account: AccountId = account.parse().map_err(|_| absent())?;
    let upload: UploadId = upload.parse().map_err(|_| absent())?;
    // The original is nobody's to see: it may tell where it was taken.
    let name = file.strip_suffix(".webp").filter(|name| is_variant(name)).ok_or_else(absent)?;
    let etag = format!("\"{name}\"");
    if matches(&request, &etag) {
        return Ok(HttpResponse::NotModified()
            .insert_header((header::ETAG, etag))
            .insert_header((header::CACHE_CONTROL, IMMUTABLE))
            .finish());
    }
    let key = format!("{PREFIX}{account}/{upload}/{file}");
    let objects = desk.objects.clone();
    let body = desk
        .main
        .spawn(async move { objects.get(&key, LIMIT_BYTES).await })
        .await
        .map_err(|_| fault::unavailable("the picture could not be fetched"))?
        .map_err(|error| fault::objects(&error))?;
    Ok(HttpResponse::Ok()
        .content_type("image/webp")
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, IMMUTABLE))
        .body(body))
}

/// `{digest}-{size}`
fn is_variant(name: &str) -> bool {
    name.split_once('-').is_some_and(|(digest, size)| {
        digest.len() == 32
            && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && (1..=4).contains(&size.len())
            && size.bytes().all(|byte| byte.is_ascii_digit())
    })
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
    fn only_variants_have_an_address() {
        assert!(is_variant("0123456789abcdef0123456789abcdef-512"));
        for name in [
            "original",
            "",
            "-",
            "0123456789abcdef0123456789abcdeg-512",
            "0123456789abcdef0123456789abcdef-",
            "../x-1",
        ] {
            assert!(!is_variant(name), "{name}");
        }
    }
}
