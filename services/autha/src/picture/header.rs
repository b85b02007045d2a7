//! What the first bytes of a picture say: format and dimensions, checked while the rest still streams.

use imagesize::{ImageType, blob_size, image_type};
use orrery_actors::web::problem::Problem;
use orrery_schemas::problems::Code;

/// The dimensions must have been seen within so many bytes; a JPEG's may stand behind its metadata.
pub const MAX_HEADER_BYTES: usize = 512 * 1024;

const LEAST_SIDE: usize = 16;
const MOST_SIDE: usize = 16_384;
const MOST_PIXELS: usize = 50_000_000;

/// A media type that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// image/jpeg
    Jpeg,
    /// image/png
    Png,
    /// image/webp
    Webp,
    /// image/gif
    Gif,
}

impl Format {
    const ALL: [Self; 4] = [Self::Jpeg, Self::Png, Self::Webp, Self::Gif];

    /// The format of a `Content-Type`, whose parameters do not matter.
    pub fn of_media_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|format| essence.eq_ignore_ascii_case(format.media_type()))
    }

    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
        }
    }

    /// The ending of keys.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Gif => "gif",
        }
    }

    const fn of_image_type(image: ImageType) -> Option<Self> {
        match image {
            ImageType::Jpeg => Some(Self::Jpeg),
            ImageType::Png => Some(Self::Png),
            ImageType::Webp => Some(Self::Webp),
            ImageType::Gif => Some(Self::Gif),
            _ => None,
        }
    }
}

/// Whether `start`, the first bytes of a body declared as `declared`, begins a picture that is taken; false when more must be seen.
///
/// # Errors
/// When it never will be one, whatever follows.
pub fn check(declared: Format, start: &[u8], complete: bool) -> Result<bool, Problem> {
    let Ok(found) = image_type(start) else {
        if start.len() < 16 && !complete {
            return Ok(false);
        }
        return Err(refused("not_an_image", "the body is no picture; send a JPEG, PNG, WebP or GIF"));
    };
    let Some(found) = Format::of_image_type(found) else {
        return Err(refused(
            "not_an_image",
            "pictures of this kind are not taken; send a JPEG, PNG, WebP or GIF",
        ));
    };
    if found != declared {
        let message = format!(
            "the body is {} but Content-Type says {}; send the type that it is",
            found.media_type(),
            declared.media_type()
        );
        return Err(refused("type_mismatch", message));
    }
    let Ok(size) = blob_size(start) else {
        if complete || start.len() >= MAX_HEADER_BYTES {
            return Err(refused(
                "corrupt",
                "the picture's dimensions cannot be read; it seems to be damaged",
            ));
        }
        return Ok(false);
    };
    let (width, height) = (size.width, size.height);
    if width < LEAST_SIDE || height < LEAST_SIDE {
        let message =
            format!("the picture has {width} x {height} pixels; it needs {LEAST_SIDE} on each side");
        return Err(refused("too_small", message));
    }
    if width > MOST_SIDE || height > MOST_SIDE || width.saturating_mul(height) > MOST_PIXELS {
        let message = format!(
            "the picture has {width} x {height} pixels; at most {MOST_SIDE} on a side and {} megapixels are taken",
            MOST_PIXELS / 1_000_000
        );
        return Err(refused("too_many_pixels", message));
    }
    Ok(true)
}

fn refused(code: &str, message: impl Into<String>) -> Problem {
    Problem::field(Code::InvalidField, "body", code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 2, 0, 0, 0]);
        bytes
    }

    #[test]
    fn dimensions_are_checked_before_anything_is_decoded() {
        assert_eq!(check(Format::Png, &png(512, 512), false), Ok(true));
        for (width, height) in [(1, 1), (60_000, 60_000), (16_384, 16_384), (0, 9)] {
            assert!(check(Format::Png, &png(width, height), false).is_err(), "{width}x{height}");
        }
    }

    #[test]
    fn a_picture_that_lies_about_its_type_is_refused() {
        assert!(check(Format::Jpeg, &png(512, 512), false).is_err());
    }

    #[test]
    fn a_short_start_waits_for_more_and_a_short_body_does_not() {
        assert_eq!(check(Format::Png, &png(512, 512)[..4], false), Ok(false));
        assert!(check(Format::Png, &png(512, 512)[..4], true).is_err());
        assert!(check(Format::Png, b"", true).is_err());
        assert!(check(Format::Png, b"<html>no picture at all</html>", false).is_err());
    }
}
