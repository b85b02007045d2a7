//! Decodes WebP (RFC 9649), of an animation its first frame, and finds its Exif block.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;

use super::raster::{Raster, orientation};
use super::{Limits, Rejection};

const WEBP: &str = "WebP";
const UNSUPPORTED: &str = "This kind of WebP";

/// Bytes before the first chunk inside an animation's frame: its place, size, duration and flags.
const FRAME_HEADER_BYTES: usize = 16;

pub(super) fn decode(input: &[u8], limits: &Limits) -> Result<Raster, Rejection> {
    let (Some(riff_size), Some(body)) = (input.get(4..).and_then(|rest| rest.first_chunk()), input.get(12..))
    else {
        return Err(Rejection::corrupt(WEBP, "the file ends in its header"));
    };
    let mut exif = None;
    let mut has_frame = false;
    for (index, (kind, data)) in (Chunks { rest: body }).enumerate() {
        let size = dimensions(kind, data);
        match (index, size) {
            (0, Some((width, height))) => limits.check(width, height)?,
            (0, None) => return Err(Rejection::corrupt(WEBP, "the file does not start with its header")),
            // The decoder makes room for what a frame says of itself, whatever the file's header said.
            (_, Some((width, height))) => limits.check_upper(width, height)?,
            (_, None) => {}
        }
        match kind {
            b"ANMF" if !has_frame => {
                has_frame = true;
                check_frame(data, limits)?;
            }
            b"EXIF" => exif = exif.or(Some(data)),
            _ => {}
        }
    }
    let is_complete =
        usize::try_from(u32::from_le_bytes(*riff_size)).is_ok_and(|size| size <= input.len() - 8);
    if !is_complete {
        return Err(Rejection::corrupt(WEBP, "the file is shorter than its header says"));
    }
    let decoder = WebPDecoder::new(Cursor::new(input))
        .map_err(|error| Rejection::from_image(WEBP, UNSUPPORTED, error))?;
    let mut raster = Raster::read(decoder, WEBP, UNSUPPORTED)?;
    raster.orientation = orientation(exif);
    Ok(raster)
}

/// Checks what is inside the frame of an animation.
fn check_frame(data: &[u8], limits: &Limits) -> Result<(), Rejection> {
    for (kind, data) in (Chunks { rest: data.get(FRAME_HEADER_BYTES..).unwrap_or_default() }) {
        if let Some((width, height)) = dimensions(kind, data) {
            limits.check_upper(width, height)?;
        }
    }
    Ok(())
}

/// Width and height in pixels, where a chunk of this kind says them.
fn dimensions(kind: &[u8; 4], data: &[u8]) -> Option<(u32, u32)> {
    match (kind, data) {
        (b"VP8X", &[_, _, _, _, w0, w1, w2, h0, h1, h2, ..]) => {
            Some((u32::from_le_bytes([w0, w1, w2, 0]) + 1, u32::from_le_bytes([h0, h1, h2, 0]) + 1))
        }
        // Three bytes of frame tag, three of start code, then 14 bits each; the upper two are a scale (RFC 6386, 9.1).
        (b"VP8 ", &[_, _, _, _, _, _, w0, w1, h0, h1, ..]) => {
            let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
            Some((side([w0, w1]), side([h0, h1])))
        }
        // A signature, then 14 bits each, less one.
        (b"VP8L", &[_, b0, b1, b2, b3, ..]) => {
            let bits = u32::from_le_bytes([b0, b1, b2, b3]);
            Some(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        _ => None,
    }
}

/// The chunks of a RIFF body with their names; the last one may be cut off by the end of the file.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, rest) = self.rest.split_first_chunk::<4>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
        let (data, rest) = rest.split_at(size.min(rest.len()));
        // Chunks start at even offsets.
        self.rest = rest.get(size % 2..).unwrap_or_default();
        Some((kind, data))
    }
}
