//! Decodes the first frame of a GIF (GIF89a specification), placed on its screen.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::gif::GifDecoder;

use super::raster::Raster;
use super::{Limits, Rejection};

const GIF: &str = "GIF";
const UNSUPPORTED: &str = "This kind of GIF";

pub(super) fn decode(input: &[u8], limits: &Limits) -> Result<Raster, Rejection> {
    // The logical screen's width and height follow the six bytes of the signature.
    let Some(&[w0, w1, h0, h1]) = input.get(6..10) else {
        return Err(Rejection::corrupt(GIF, "the file ends in its header"));
    };
    limits.check(u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into())?;

    let as_rejection = |error| Rejection::from_image(GIF, UNSUPPORTED, error);
    let mut decoder = GifDecoder::new(Cursor::new(input)).map_err(as_rejection)?;
    // A frame has dimensions of its own, and may be larger than the screen.
    let mut frame_limits = image::Limits::no_limits();
    frame_limits.max_alloc = Some(limits.max_pixels.saturating_mul(4));
    decoder.set_limits(frame_limits).map_err(as_rejection)?;
    Raster::read(decoder, GIF, UNSUPPORTED)
}
