//! Decodes PNG (ISO/IEC 15948), of an animated one the still picture, and finds what it says of its colours and its orientation.

use std::io::Cursor;

use orrery_picture_header::{Format, Header};
use png::{BitDepth, ColorType, Decoder, DecodingError, Info, Limits, Transformations};

use super::Rejection;
use super::color::{Encoding, Primaries};
use super::exif::Orientation;
use super::preset::Size;
use super::raster::{Raster, Samples};

/// What the decoder may allocate beside the pixels, in bytes: rows, and a colour profile, which can be a compressed bomb.
pub(super) const MAX_BESIDE_BYTES: usize = 16 * 1024 * 1024;

pub(super) fn decode(input: &[u8], header: &Header) -> Result<Raster, Rejection> {
    let corrupt = |error: DecodingError| Rejection::corrupt(Format::Png, error);
    let mut exif = Vec::new();
    let mut is_complete = false;
    for (kind, body) in (Chunks { rest: input.get(8..).unwrap_or_default() }) {
        match kind {
            b"eXIf" => exif.push(body),
            b"IEND" => {
                is_complete = true;
                break;
            }
            _ => {}
        }
    }
    // The decoder is content once it has all pixels, or what it takes for all.
    if !is_complete {
        return Err(Rejection::corrupt(Format::Png, "the file ends before its last chunk"));
    }
    let mut decoder = Decoder::new_with_limits(Cursor::new(input), Limits { bytes: MAX_BESIDE_BYTES });
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(corrupt)?;
    let (color, depth) = reader.output_color_type();
    let samples = match color {
        ColorType::Grayscale => Samples::Grey,
        ColorType::GrayscaleAlpha => Samples::GreyAlpha,
        ColorType::Rgb => Samples::Rgb,
        ColorType::Rgba => Samples::Rgba,
        ColorType::Indexed => return Err(Rejection::failed("png", "the palette was not expanded")),
    };
    let is_wide = depth == BitDepth::Sixteen;
    let size = Size { width: header.width, height: header.height };
    let mut raster = Raster::new(size, samples, if is_wide { 16 } else { 8 });
    if reader.output_buffer_size() != Some(raster.image.buffer().len()) {
        return Err(Rejection::corrupt(Format::Png, "the frame is not of the size of its header"));
    }
    reader.next_frame(raster.image.buffer_mut()).map_err(corrupt)?;
    if is_wide {
        let (pairs, _) = raster.image.buffer_mut().as_chunks_mut::<2>();
        pairs.iter_mut().for_each(|pair| *pair = u16::from_be_bytes(*pair).to_ne_bytes());
    }
    raster.encoding = encoding(reader.info());
    raster.orientation = Orientation::of_blocks(exif);
    Ok(raster)
}

/// What a PNG says of its colours, in the order in which it counts (PNG specification, third edition, 4.3).
fn encoding(info: &Info) -> Encoding {
    if let Some(points) = info.coding_independent_code_points {
        return Encoding::CodePoints {
            primaries: points.color_primaries,
            transfer: points.transfer_function,
        };
    }
    if let Some(profile) = &info.icc_profile {
        return Encoding::Icc(profile.to_vec());
    }
    match (info.srgb, info.gama_chunk) {
        (None, Some(gamma)) => Encoding::Gamma {
            exponent: gamma.into_value(),
            primaries: info.chrm_chunk.map(|points| Primaries {
                white: pair(points.white),
                red: pair(points.red),
                green: pair(points.green),
                blue: pair(points.blue),
            }),
        },
        _ => Encoding::Srgb,
    }
}

fn pair((x, y): (png::ScaledFloat, png::ScaledFloat)) -> (f32, f32) {
    (x.into_value(), y.into_value())
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
