//! Files of the bucket, such as those of a page: what a route's prefix and the rest of the path name.

use actix_web::{HttpRequest, HttpResponse, http::header};
use aws_lc_rs::digest::{SHA256, digest};
use orrery_objects::{ObjectError, Objects};
use orrery_observability::trace::in_current;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use percent_encoding::percent_decode_str;
use tokio::runtime::Handle;
use tracing::warn;

/// The largest file that is served.
const LIMIT_BYTES: u64 = 16 * 1024 * 1024;
/// What a path that ends with a slash names.
const INDEX: &str = "index.html";

/// The bucket, and the runtime that owns its client.
#[derive(Clone)]
pub struct Assets {
    /// The bucket.
    pub objects: Objects,
    /// The runtime.
    pub main: Handle,
}

impl Assets {
    /// The file at a path.
    ///
    /// # Errors
    /// 404 where none is, 503 while the bucket is away.
    pub async fn get(
        &self,
        prefix: &str,
        request: &HttpRequest,
        path: &str,
    ) -> Result<HttpResponse, Problem> {
        let index = if path.ends_with('/') { INDEX } else { "" };
        let path = percent_decode_str(path).decode_utf8_lossy();
        let key = format!("{prefix}{path}{index}");
        let media_type = mime_guess::from_path(&key).first_or_octet_stream();
        let objects = self.objects.clone();
        let unavailable =
            || Problem::new(Code::Unavailable, "files cannot be fetched right now; try again in a second");
        let fetched = self.main.spawn(in_current(async move { objects.get(&key, LIMIT_BYTES).await })).await;
        let body = fetched.map_err(|_| unavailable())?.map_err(|error| match error {
            ObjectError::NotFound => Problem::new(Code::NotFound, "no file is here"),
            error => {
                warn!(%error, "a file could not be fetched from the bucket");
                unavailable()
            }
        })?;
        let etag =
            format!("\"{}\"", hex::encode(digest(&SHA256, &body).as_ref().get(..16).unwrap_or_default()));
        let known = request
            .headers()
            .get_all(header::IF_NONE_MATCH)
            .filter_map(|value| value.to_str().ok())
            .any(|list| list.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
        let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header((header::ETAG, etag))
            .insert_header((header::CACHE_CONTROL, "public, max-age=60"))
            .content_type(media_type);
        Ok(if known { response.finish() } else { response.body(body) })
    }
}
