//! Chooses the decoder. The header is read, and held to the limits, before anything is decoded.

use orrery_picture_header::{Format, read};

use super::preset::Preset;
use super::raster::Raster;
use super::{Limits, Rejection, gif, jpeg, png, webp};

/// The pixels of the file; a JPEG's may already be cut and reduced, but never below what the preset needs.
pub(super) fn decode(input: &[u8], preset: &Preset, limits: &Limits) -> Result<Raster, Rejection> {
    let header = read(input)?;
    limits.check(&header)?;
    match header.format() {
        Format::Jpeg => jpeg::decode(input, &header, preset),
        Format::Png => png::decode(input, &header),
        Format::WebP => webp::decode(input, &header, limits),
        Format::Gif => gif::decode(input, &header),
    }
}
