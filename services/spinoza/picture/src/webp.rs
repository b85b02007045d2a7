//! Decodes WebP (RFC 9649): stills by libwebp, of an animation its first frame; finds its colour profile and its Exif block.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::webp::WebPDecoder;
use orrery_picture_header::{Format, Header, Layout};

use super::color::Encoding;
use super::exif::Orientation;
use super::preset::Size;
use super::raster::{Raster, Samples};
use super::{Limits, Rejection};

const UNSUPPORTED: &str = "This kind of WebP";

/// Bytes before the first chunk inside an animation's frame: its place, size, duration and flags.
const FRAME_HEADER_BYTES: usize = 16;

pub(super) fn decode(input: &[u8], header: &Header, limits: &Limits) -> Result<Raster, Rejection> {
    let corrupt = |why: &'static str| Rejection::corrupt(Format::WebP, why);
    let (Some(riff_size), Some(body)) = (input.get(4..).and_then(|rest| rest.first_chunk()), input.get(12..))
    else {
        return Err(corrupt("the file ends in its header"));
    };
    let is_complete =
        usize::try_from(u32::from_le_bytes(*riff_size)).is_ok_and(|size| size <= input.len() - 8);
    if !is_complete {
        return Err(corrupt("the file is shorter than its header says"));
    }
    let (mut exif, mut profile, mut has_frame) = (Vec::new(), None, false);
    for (kind, data) in (Chunks { rest: body }) {
        // A decoder makes room for what a frame says of itself, whatever the file's header said.
        check_frame(kind, data, limits)?;
        match kind {
            b"ANMF" if !has_frame => {
                has_frame = true;
                for (kind, data) in (Chunks { rest: data.get(FRAME_HEADER_BYTES..).unwrap_or_default() }) {
                    check_frame(kind, data, limits)?;
                }
            }
            b"EXIF" => exif.push(data),
            b"ICCP" => profile = profile.or(Some(data)),
            _ => {}
        }
    }
    let size = Size { width: header.width, height: header.height };
    let mut raster = match header.layout {
        Layout::WebP { is_animated: true, .. } => animated(input, size)?,
        _ => still(input, size)?,
    };
    raster.orientation = Orientation::of_blocks(exif);
    raster.encoding = profile.map_or(Encoding::Srgb, |profile| Encoding::Icc(profile.to_vec()));
    Ok(raster)
}

fn still(input: &[u8], size: Size) -> Result<Raster, Rejection> {
    let features = webp::BitstreamFeatures::new(input)
        .filter(|features| !features.has_animation())
        .filter(|features| (features.width(), features.height()) == (size.width, size.height))
        .ok_or_else(|| Rejection::corrupt(Format::WebP, "libwebp cannot read its header"))?;
    let samples = if features.has_alpha() { Samples::Rgba } else { Samples::Rgb };
    let mut raster = Raster::new(size, samples, 8);
    let stride = size.width * u32::from(samples.count());
    let decode =
        if features.has_alpha() { libwebp_sys::WebPDecodeRGBAInto } else { libwebp_sys::WebPDecodeRGBInto };
    let pixels = raster.image.buffer_mut();
    let stride = i32::try_from(stride).map_err(|error| Rejection::corrupt(Format::WebP, error))?;
    // SAFETY: both slices outlive the call, their lengths go with them, and libwebp checks that stride times height fits into the
    // output before it writes.
    #[expect(
        unsafe_code,
        reason = "the safe binding decodes into memory of its own, which would have to be copied"
    )]
    let decoded = unsafe { decode(input.as_ptr(), input.len(), pixels.as_mut_ptr(), pixels.len(), stride) };
    if decoded.is_null() {
        return Err(Rejection::corrupt(Format::WebP, "libwebp cannot decode it"));
    }
    Ok(raster)
}

fn animated(input: &[u8], size: Size) -> Result<Raster, Rejection> {
    let as_rejection = |error| Rejection::from_image(Format::WebP, UNSUPPORTED, error);
    let decoder = WebPDecoder::new(Cursor::new(input)).map_err(as_rejection)?;
    let samples = if decoder.color_type().has_alpha() { Samples::Rgba } else { Samples::Rgb };
    let mut raster = Raster::new(size, samples, 8);
    if decoder.dimensions() != (size.width, size.height)
        || usize::try_from(decoder.total_bytes()).ok() != Some(raster.image.buffer().len())
    {
        return Err(Rejection::unsupported(UNSUPPORTED));
    }
    decoder.read_image(raster.image.buffer_mut()).map_err(as_rejection)?;
    Ok(raster)
}

/// Holds what a bitstream says of its own size to the limits.
fn check_frame(kind: &[u8; 4], data: &[u8], limits: &Limits) -> Result<(), Rejection> {
    let (width, height) = match (kind, data) {
        // Three bytes of frame tag, three of start code, then 14 bits each; the upper two are a scale (RFC 6386, 9.1).
        (b"VP8 ", &[_, _, _, _, _, _, w0, w1, h0, h1, ..]) => {
            let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
            (side([w0, w1]), side([h0, h1]))
        }
        // A signature, then 14 bits each, less one.
        (b"VP8L", &[_, b0, b1, b2, b3, ..]) => {
            let bits = u32::from_le_bytes([b0, b1, b2, b3]);
            ((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1)
        }
        _ => return Ok(()),
    };
    Ok(limits.check_upper(width, height)?)
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
