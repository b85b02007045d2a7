//! Decodes JPEG (ITU-T T.81) by libjpeg-turbo, which can reduce by eighths while it decodes.

use image::ColorType;
use turbojpeg::{Colorspace, DecompressHeader, Decompressor, PixelFormat, ScalingFactor};

use super::raster::{Raster, orientation};
use super::{Limits, Rejection};

const JPEG: &str = "JPEG";

/// A progressive picture has about ten scans. Each costs a pass over all its pixels, and thousands fit in a few bytes.
const MAX_SCANS: u32 = 64;

const SOF_0: u8 = 0xc0;
const SOF_15: u8 = 0xcf;
const DHT: u8 = 0xc4;
const JPG: u8 = 0xc8;
const DAC: u8 = 0xcc;
const RST_0: u8 = 0xd0;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const APP_1: u8 = 0xe1;
const APP_14: u8 = 0xee;

pub(super) fn decode(input: &[u8], largest_side: u32, limits: &Limits) -> Result<Raster, Rejection> {
    let corrupt = |error: turbojpeg::Error| Rejection::corrupt(JPEG, error);
    let failed = |error: turbojpeg::Error| Rejection::failed("jpeg", error);

    let before_scan = BeforeScan::read(input);
    if before_scan.precision.is_some_and(|bits| bits != 8) {
        return Err(Rejection::Unsupported { what: "A JPEG with more or less than 8 bits a sample" });
    }
    let mut decompressor = Decompressor::new().map_err(failed)?;
    let header = decompressor.read_header(input).map_err(corrupt)?;
    limits.check(pixels(header.width)?, pixels(header.height)?)?;

    let factor = scaling_factor(&header, usize::try_from(largest_side).unwrap_or(usize::MAX));
    decompressor.set_scaling_factor(factor).map_err(failed)?;
    decompressor.set_scan_limit(MAX_SCANS).map_err(failed)?;
    let (format, color) = match header.colorspace {
        Colorspace::Gray => (PixelFormat::GRAY, ColorType::L8),
        Colorspace::CMYK | Colorspace::YCCK => (PixelFormat::CMYK, ColorType::Rgba8),
        Colorspace::RGB | Colorspace::YCbCr => (PixelFormat::RGB, ColorType::Rgb8),
    };
    let size = header.scaled(factor);
    let mut raster = Raster::new(pixels(size.width)?, pixels(size.height)?, color)
        .ok_or(Rejection::Unsupported { what: "This kind of JPEG" })?;
    let output = turbojpeg::Image {
        pixels: raster.image.buffer_mut(),
        width: size.width,
        pitch: size.width * format.size(),
        height: size.height,
        format,
    };
    if let Err(error) = decompressor.decompress(input, output)
        && !is_harmless(&error, input)
    {
        return Err(corrupt(error));
    }
    if format == PixelFormat::CMYK {
        cmyk_to_rgb(raster.image.buffer_mut(), before_scan.is_adobe);
        raster.has_alpha = false;
    }
    raster.orientation = orientation(before_scan.exif);
    Ok(raster)
}

fn pixels(side: usize) -> Result<u32, Rejection> {
    u32::try_from(side).map_err(|error| Rejection::corrupt(JPEG, error))
}

/// The smallest eighths that leave the shorter side at `largest_side` pixels or more; never an enlargement.
fn scaling_factor(header: &DecompressHeader, largest_side: usize) -> ScalingFactor {
    if header.is_lossless {
        return ScalingFactor::ONE;
    }
    (1..8)
        .map(|eighths| ScalingFactor::new(eighths, 8))
        .find(|factor| factor.scale(header.width.min(header.height)) >= largest_side)
        .unwrap_or(ScalingFactor::ONE)
}

/// Whether the decoder only complains about stray bytes between segments, which some cameras leave.
///
/// libjpeg-turbo decodes on after a warning, and the crate makes an error of it that carries the first
/// warning's text: a file that breaks off afterwards is known by its missing end.
fn is_harmless(error: &turbojpeg::Error, input: &[u8]) -> bool {
    matches!(error, turbojpeg::Error::TurboJpegError(text) if text.contains("extraneous bytes before marker"))
        && (Segments { rest: input }).any(|(marker, _)| marker == EOI)
}

/// Turns ink into light in place, leaving the fourth sample opaque.
///
/// Adobe's programs store the complement of the ink, and mark the file as theirs; so do nearly all files.
fn cmyk_to_rgb(samples: &mut [u8], is_adobe: bool) {
    let (pixels, _) = samples.as_chunks_mut::<4>();
    for pixel in pixels {
        let light = |sample: u8| u32::from(if is_adobe { sample } else { 255 - sample });
        let [c, m, y, k] = pixel.map(light);
        let [r, g, b] = [c, m, y].map(|ink| u8::try_from((ink * k + 127) / 255).unwrap_or(u8::MAX));
        *pixel = [r, g, b, u8::MAX];
    }
}

/// What the segments before the first scan say and the decoder does not tell.
struct BeforeScan<'a> {
    exif: Option<&'a [u8]>,
    is_adobe: bool,
    /// In bits a sample.
    precision: Option<u8>,
}

impl<'a> BeforeScan<'a> {
    fn read(input: &'a [u8]) -> Self {
        let mut found = Self { exif: None, is_adobe: false, precision: None };
        for (marker, body) in (Segments { rest: input }).take_while(|(marker, _)| *marker != SOS) {
            match marker {
                APP_1 => found.exif = found.exif.or(body.strip_prefix(b"Exif\0\0")),
                APP_14 => found.is_adobe |= body.starts_with(b"Adobe"),
                DHT | JPG | DAC => {}
                SOF_0..=SOF_15 => found.precision = found.precision.or(body.first().copied()),
                _ => {}
            }
        }
        found
    }
}

/// The marker segments of a file, with what they contain; the pixels' data between them is skipped.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.rest.iter().position(|&byte| byte == 0xff)?;
            let rest = self.rest.get(start..)?;
            // A marker may be preceded by any number of 0xff.
            let (&marker, rest) = rest.get(rest.iter().position(|&byte| byte != 0xff)?..)?.split_first()?;
            self.rest = rest;
            match marker {
                // An 0xff among the pixels' data is followed by 0; TEM, RSTn and SOI have no body.
                0 | 1 | RST_0..=SOI => {}
                EOI => return Some((marker, &[])),
                _ => {
                    let (length, rest) = rest.split_first_chunk::<2>()?;
                    let length = usize::from(u16::from_be_bytes(*length)).checked_sub(2)?;
                    let (body, rest) = rest.split_at_checked(length)?;
                    self.rest = rest;
                    return Some((marker, body));
                }
            }
        }
    }
}
