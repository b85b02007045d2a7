//! Decodes PNG (ISO/IEC 15948), of an animated one the still picture, and finds its Exif block.

use std::io::Cursor;

use image::codecs::png::PngDecoder;

use super::raster::{Raster, orientation};
use super::{Limits, Rejection};

const PNG: &str = "PNG";
const UNSUPPORTED: &str = "This kind of PNG";

/// What the decoder may allocate beside the pixels, in bytes: a row, and metadata, which can be compressed bombs.
const MAX_METADATA_BYTES: u64 = 16 * 1024 * 1024;

pub(super) fn decode(input: &[u8], limits: &Limits) -> Result<Raster, Rejection> {
    let mut exif = None;
    let mut is_complete = false;
    for (index, (kind, body)) in (Chunks { rest: input.get(8..).unwrap_or_default() }).enumerate() {
        match (index, kind, body) {
            (0, b"IHDR", &[w0, w1, w2, w3, h0, h1, h2, h3, ..]) => {
                limits.check(u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]))?;
            }
            (0, ..) => return Err(Rejection::corrupt(PNG, "the file does not start with its header")),
            (_, b"eXIf", block) => exif = exif.or(Some(block)),
            (_, b"IEND", _) => {
                is_complete = true;
                break;
            }
            _ => {}
        }
    }
    // The decoder is content once it has all pixels, or what it takes for all.
    if !is_complete {
        return Err(Rejection::corrupt(PNG, "the file ends before its last chunk"));
    }
    let mut metadata_limits = image::Limits::no_limits();
    metadata_limits.max_alloc = Some(MAX_METADATA_BYTES);
    let decoder = PngDecoder::with_limits(Cursor::new(input), metadata_limits)
        .map_err(|error| Rejection::from_image(PNG, UNSUPPORTED, error))?;
    let mut raster = Raster::read(decoder, PNG, UNSUPPORTED)?;
    raster.orientation = orientation(exif);
    Ok(raster)
}

/// The chunks with their types, as far as they are whole; checksums are the decoder's business.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (body, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let (_checksum, rest) = rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some((kind, body))
    }
}
