//! Tells a file's format by its first bytes; names and content types given by the uploader are not asked.

use super::Rejection;

/// A format that is decoded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
}

/// Formats that are pictures, though not for us, by a magic number at an offset: for a better answer.
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

/// The format of the file.
///
/// # Errors
/// [`Rejection::Unsupported`] for pictures of other formats, [`Rejection::NotAnImage`] for everything else.
pub(super) fn detect(input: &[u8]) -> Result<Format, Rejection> {
    let has = |offset: usize, magic: &[u8]| input.get(offset..).is_some_and(|rest| rest.starts_with(magic));
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
        Err(other.map_or(Rejection::NotAnImage, |(_, _, what)| Rejection::Unsupported { what }))
    }
}
