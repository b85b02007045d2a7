//! `/avatars/{id}`: leads to a variant of somebody's picture in the size and format that are asked for, at its own address, here or at a
//! CDN. What is at that address lives in `variant`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Query},
};
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde::Deserialize;

use super::{AppState, negotiate, profile};
use crate::{
    account::lookup::Icon,
    picture::{delivery::Format, placeholder::svg},
};

/// The wanted size.
#[derive(Deserialize)]
pub struct Size {
    /// Width and height in pixels; the smallest variant that is not smaller is given.
    size: Option<String>,
}

/// Leads to the current picture.
pub async fn current(
    request: HttpRequest,
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
    let is_choice = icons.iter().any(|icon| icons.first().is_some_and(|first| first.format != icon.format));
    let Some(icon) = chosen(&icons, size, negotiate::picture(&request)) else {
        return Ok(placeholder(&account.username));
    };
    let mut answer = HttpResponse::Found();
    answer
        .insert_header((header::LOCATION, app.links.picture(icon)))
        .insert_header((header::CACHE_CONTROL, "public, max-age=60"));
    // Where there is one format, whoever asks gets it: caches need not tell them apart.
    if is_choice {
        answer.insert_header((header::VARY, "Accept"));
    }
    let mut answer = answer.finish();
    profile::tag(&mut answer, &account);
    Ok(answer)
}

/// The smallest that is not smaller than `size`, else the largest; in that format where there is one.
fn chosen(icons: &[Icon], size: i32, format: Format) -> Option<&Icon> {
    let has = icons.iter().any(|icon| icon.format == format);
    // Largest first: the last that is large enough is the smallest of those.
    let mut fitting = icons.iter().filter(|icon| !has || icon.format == format);
    let largest = fitting.clone().next();
    fitting.rfind(|icon| icon.width >= size).or(largest)
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn size_and_format_are_chosen_among_what_is_there() {
        let icon = |width, format| Icon { public: Uuid::nil(), width, format };
        let all: Vec<Icon> = [512, 256, 64]
            .into_iter()
            .flat_map(|width| [icon(width, Format::WebP), icon(width, Format::Jpeg)])
            .collect();
        let one = [icon(512, Format::WebP), icon(64, Format::WebP)];
        for (icons, size, asked, expected) in [
            (&all[..], 100, Format::WebP, Some((256, Format::WebP))),
            (&all[..], 100, Format::Jpeg, Some((256, Format::Jpeg))),
            (&all[..], i32::MAX, Format::Jpeg, Some((512, Format::Jpeg))),
            (&all[..], 1, Format::WebP, Some((64, Format::WebP))),
            (&one[..], 100, Format::Jpeg, Some((512, Format::WebP))),
            (&[], 100, Format::Jpeg, None),
        ] {
            let found = chosen(icons, size, asked).map(|icon| (icon.width, icon.format));
            assert_eq!(found, expected, "{size} {asked:?}");
        }
    }
}
