//! Brings small pictures of any kind of pixel to sRGB with 8 bits a sample, by what the file says of its colours. A description that
//! makes no sense is none, as in browsers.

use std::sync::Arc;

use image::{DynamicImage, RgbImage, RgbaImage};
use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, DataColorSpace, Layout,
    MatrixCoefficients, TransferCharacteristics, TransformExecutor, TransformOptions, curve_from_gamma,
};
use orrery_picture_resize::PixelType;

use super::Rejection;
use super::preset::Size;
use super::raster::Samples;

const STEP: &str = "colors";

/// The exponent of gAMA that stands for sRGB in most files, and how far from it nobody sees (as libpng has it).
const SRGB_EXPONENT: f32 = 1.0 / 2.2;
const SAME_EXPONENT: f32 = 0.05;

/// What the numbers of a file mean as colours.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Encoding {
    Srgb,
    /// By an ICC profile.
    Icc(Vec<u8>),
    /// By the numbers of ITU-T H.273.
    CodePoints {
        primaries: u8,
        transfer: u8,
    },
    /// By a power of so much, from light to number; sRGB's primaries where there are none.
    Gamma {
        exponent: f32,
        primaries: Option<Primaries>,
    },
}

/// Chromaticities: x and y.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Primaries {
    pub(super) white: (f32, f32),
    pub(super) red: (f32, f32),
    pub(super) green: (f32, f32),
    pub(super) blue: (f32, f32),
}

enum Transform {
    Narrow(Arc<dyn TransformExecutor<u8> + Send + Sync>),
    Wide(Arc<dyn TransformExecutor<u16> + Send + Sync>),
}

/// From a kind of pixel to sRGB.
pub(super) struct Converter {
    samples: Samples,
    is_wide: bool,
    /// Where the numbers are not sRGB's already: the profile's kind of pixels, and how they are converted.
    transform: Option<(Layout, Transform)>,
}

impl Converter {
    pub(super) fn new(encoding: &Encoding, samples: Samples, pixel_type: PixelType) -> Self {
        let is_wide =
            matches!(pixel_type, PixelType::U16 | PixelType::U16x2 | PixelType::U16x3 | PixelType::U16x4);
        let transform = profile(encoding).and_then(|profile| transform(&profile, samples, is_wide));
        Self { samples, is_wide, transform }
    }

    /// An RGB picture, or RGBA where there is opacity, of the pixels of that size.
    pub(super) fn convert(&self, size: Size, pixels: Vec<u8>) -> Result<DynamicImage, Rejection> {
        let converted = match &self.transform {
            None => self.as_srgb(&pixels),
            Some((layout, Transform::Narrow(transform))) => {
                let source = expand(&pixels, self.samples, *layout, |sample| u8::MAX - sample);
                let mut converted = vec![0; self.room(size)];
                transform.transform(&source, &mut converted).map_err(|error| failed(&error))?;
                converted
            }
            Some((layout, Transform::Wide(transform))) => {
                let source = expand(&wide(&pixels), self.samples, *layout, |sample| u16::MAX - sample);
                let mut converted = vec![0_u16; self.room(size)];
                transform.transform(&source, &mut converted).map_err(|error| failed(&error))?;
                converted.into_iter().map(high).collect()
            }
        };
        let Size { width, height } = size;
        let picture = if self.samples.has_alpha() {
            RgbaImage::from_raw(width, height, converted).map(DynamicImage::from)
        } else {
            RgbImage::from_raw(width, height, converted).map(DynamicImage::from)
        };
        picture.ok_or_else(|| Rejection::failed(STEP, format!("{width} x {height} are not so many pixels")))
    }

    /// Bytes of the converted picture.
    fn room(&self, size: Size) -> usize {
        let samples = if self.samples.has_alpha() { 4 } else { 3 };
        usize::try_from(u64::from(size.width) * u64::from(size.height) * samples).unwrap_or_default()
    }

    /// The numbers as they are.
    fn as_srgb(&self, pixels: &[u8]) -> Vec<u8> {
        let narrow: Vec<u8>;
        let pixels = if self.is_wide {
            narrow = wide(pixels).into_iter().map(high).collect();
            &narrow
        } else {
            pixels
        };
        match self.samples {
            Samples::Grey => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            Samples::GreyAlpha => {
                let (pixels, _) = pixels.as_chunks::<2>();
                pixels.iter().flat_map(|&[grey, alpha]| [grey, grey, grey, alpha]).collect()
            }
            Samples::Rgb | Samples::Rgba => pixels.to_vec(),
            // Light is what neither a colour's ink nor the black one takes away.
            Samples::Cmyk => {
                let (pixels, _) = pixels.as_chunks::<4>();
                let light = |color: u8, black: u8| {
                    let product = u32::from(color) * u32::from(black);
                    u8::try_from((product + 127) / 255).unwrap_or(u8::MAX)
                };
                pixels.iter().flat_map(|&[c, m, y, k]| [light(c, k), light(m, k), light(y, k)]).collect()
            }
        }
    }
}

fn failed(error: &moxcms::CmsError) -> Rejection {
    Rejection::failed(STEP, format!("the conversion failed: {error}"))
}

/// The profile of an encoding that is not sRGB and makes sense.
fn profile(encoding: &Encoding) -> Option<ColorProfile> {
    match encoding {
        Encoding::Srgb => None,
        Encoding::Icc(bytes) => ColorProfile::new_from_slice(bytes).ok(),
        Encoding::CodePoints { primaries, transfer } => {
            let color_primaries = CicpColorPrimaries::try_from(*primaries).ok()?;
            let transfer_characteristics = TransferCharacteristics::try_from(*transfer).ok()?;
            let is_srgb = color_primaries == CicpColorPrimaries::Bt709
                && transfer_characteristics == TransferCharacteristics::Srgb;
            let points = CicpProfile {
                color_primaries,
                transfer_characteristics,
                matrix_coefficients: MatrixCoefficients::Identity,
                full_range: true,
            };
            let profile = ColorProfile::new_from_cicp(points);
            (!is_srgb && profile.red_trc.is_some()).then_some(profile)
        }
        Encoding::Gamma { exponent, primaries } => {
            let is_srgb = primaries.is_none() && (exponent / SRGB_EXPONENT - 1.0).abs() < SAME_EXPONENT;
            if is_srgb || !(0.01..=10.0).contains(exponent) {
                return None;
            }
            let mut profile = ColorProfile::new_srgb();
            profile.cicp = None;
            if let Some(Primaries { white, red, green, blue }) = primaries {
                let point = |&(x, y): &(f32, f32)| Chromaticity { x, y };
                if [white, red, green, blue].iter().any(|(_, y)| *y <= 0.0) {
                    return None;
                }
                let primaries = ColorPrimaries { red: point(red), green: point(green), blue: point(blue) };
                profile.update_rgb_colorimetry(point(white).to_xyyb(), primaries);
            }
            let curve = curve_from_gamma(1.0 / exponent);
            profile.red_trc = Some(curve.clone());
            profile.green_trc = Some(curve.clone());
            profile.blue_trc = Some(curve);
            Some(profile)
        }
    }
}

/// How pixels of this kind become sRGB by the profile; none where it is a profile of another kind.
fn transform(profile: &ColorProfile, samples: Samples, is_wide: bool) -> Option<(Layout, Transform)> {
    let source = match (profile.color_space, samples) {
        (DataColorSpace::Gray, Samples::Grey) => Layout::Gray,
        (DataColorSpace::Gray, Samples::GreyAlpha) => Layout::GrayAlpha,
        (DataColorSpace::Rgb, Samples::Grey | Samples::Rgb) => Layout::Rgb,
        (DataColorSpace::Rgb, Samples::GreyAlpha | Samples::Rgba) => Layout::Rgba,
        (DataColorSpace::Cmyk, Samples::Cmyk) => Layout::Rgba,
        _ => return None,
    };
    let target = if samples.has_alpha() { Layout::Rgba } else { Layout::Rgb };
    let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
    let transform = if is_wide {
        Transform::Wide(profile.create_transform_16bit(source, &srgb, target, options).ok()?)
    } else {
        Transform::Narrow(profile.create_transform_8bit(source, &srgb, target, options).ok()?)
    };
    Some((source, transform))
}

/// The samples as the profile wants them: grey as three colours where it knows colours, ink instead of its complement.
fn expand<T: Copy>(pixels: &[T], samples: Samples, layout: Layout, complement: fn(T) -> T) -> Vec<T> {
    match (samples, layout) {
        (Samples::Grey, Layout::Rgb) => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        (Samples::GreyAlpha, Layout::Rgba) => {
            let (pixels, _) = pixels.as_chunks::<2>();
            pixels.iter().flat_map(|&[grey, alpha]| [grey, grey, grey, alpha]).collect()
        }
        (Samples::Cmyk, _) => pixels.iter().map(|&sample| complement(sample)).collect(),
        _ => pixels.to_vec(),
    }
}

/// Samples of 16 bits from their bytes in the machine's order.
fn wide(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_ne_bytes(*pair)).collect()
}

/// The nearest of 8 bits.
fn high(sample: u16) -> u8 {
    u8::try_from((u32::from(sample) * 255 + 32_767) / 65_535).unwrap_or(u8::MAX)
}
