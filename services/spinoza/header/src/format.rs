//! Tells a file's format by its first bytes; names and content types given by the uploader are not asked.

use super::Fault;

/// A format that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// image/jpeg
    Jpeg,
    /// image/png
    Png,
    /// image/webp
    WebP,
    /// image/gif
    Gif,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Jpeg, Self::Png, Self::WebP, Self::Gif];

    /// The format of a `Content-Type`, whose parameters do not matter.
    #[must_use]
    pub fn of_media_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|format| essence.eq_ignore_ascii_case(format.media_type()))
    }

    /// The one of that ending.
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == extension)
    }

    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Gif => "image/gif",
        }
    }

    /// The ending of file names, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
        }
    }

    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
        }
    }
}

/// So many first bytes tell every format; a shorter file is no picture of any.
pub(super) const MAGIC_BYTES: usize = 12;

/// Formats that are pictures, though not taken, by a magic number at an offset: for a better answer.
const OTHERS: [(usize, &[u8], &str); 20] = [
    (4, b"ftypheic", "A HEIC picture"),
    (4, b"ftypheix", "A HEIC picture"),
    (4, b"ftypheim", "A HEIC picture"),
    (4, b"ftypheis", "A HEIC picture"),
    (4, b"ftyphevc", "A HEIC picture"),
    (4, b"ftypmif1", "A HEIF picture"),
    (4, b"ftypmsf1", "A HEIF picture"),
    (4, b"ftypavif", "An AVIF picture"),
    (4, b"ftypavis", "An AVIF picture"),
    (0, b"\xff\x0a", "A JPEG XL picture"),
    (0, b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a", "A JPEG XL picture"),
    (0, b"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a", "A JPEG 2000 picture"),
    (0, b"II*\0", "A TIFF or raw camera picture"),
    (0, b"MM\0*", "A TIFF or raw camera picture"),
    (0, b"8BPS", "A Photoshop document"),
    (0, b"\x00\x00\x01\x00", "An icon file"),
    (0, b"%PDF-", "A PDF document"),
    (0, b"<svg", "An SVG drawing"),
    (0, b"<?xml", "An SVG drawing"),
    (0, b"BM", "A BMP picture"),
];

/// The format of a file that starts like this.
///
/// # Errors
/// [`Fault::Unsupported`] for pictures of other formats, [`Fault::NotAnImage`] for everything else.
pub(super) fn detect(start: &[u8]) -> Result<Format, Fault> {
    let has = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if has(0, b"\xff\xd8\xff") {
        Ok(Format::Jpeg)
    } else if has(0, b"\x89PNG\r\n\x1a\n") {
        Ok(Format::Png)
    } else if has(0, b"RIFF") && has(8, b"WEBP") {
        Ok(Format::WebP)
    } else if has(0, b"GIF87a") || has(0, b"GIF89a") {
        Ok(Format::Gif)
    } else {
        let other = OTHERS.iter().find(|(offset, magic, _)| has(*offset, magic));
        Err(other.map_or(Fault::NotAnImage, |(_, _, what)| Fault::Unsupported { what }))
    }
}
