//! Chooses the decoder. Each one checks the dimensions in the header before it decodes.

use super::format::{Format, detect};
use super::raster::Raster;
use super::{Limits, Rejection, gif, jpeg, png, webp};

/// The pixels of the file; a JPEG's may already be reduced, but never to a shorter side below `largest_side`
/// pixels unless it was below before.
pub(super) fn decode(input: &[u8], largest_side: u32, limits: &Limits) -> Result<Raster, Rejection> {
    match detect(input)? {
        Format::Jpeg => jpeg::decode(input, largest_side, limits),
        Format::Png => png::decode(input, limits),
        Format::WebP => webp::decode(input, limits),
        Format::Gif => gif::decode(input, limits),
    }
}
