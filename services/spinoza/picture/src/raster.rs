//! Decoded pixels on their way from a decoder to the resizer, in the decoder's own pixel type: no full-size copy
//! is made to unify them.

use orrery_picture_resize::{Image, PixelType};

use super::color::Encoding;
use super::exif::Orientation;
use super::preset::Size;

/// What the samples of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Samples {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
    /// The complement of cyan, magenta, yellow and black ink.
    Cmyk,
}

impl Samples {
    pub(super) const fn count(self) -> u8 {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }

    pub(super) const fn has_alpha(self) -> bool {
        matches!(self, Self::GreyAlpha | Self::Rgba)
    }
}

/// A decoded picture, or a part of one, not yet cropped, turned or reduced.
pub(super) struct Raster {
    /// The pixels, rows from the top, without padding; samples of 16 bits are in the machine's byte order.
    pub(super) image: Image<'static>,
    pub(super) samples: Samples,
    /// The whole stored picture at the scale of `image`.
    pub(super) whole: Size,
    /// The whole stored picture as its header says; no variant is larger.
    pub(super) stored: Size,
    /// Where `image` lies in it: left and top.
    pub(super) origin: (u32, u32),
    /// How to turn the pixels so that the picture stands upright.
    pub(super) orientation: Orientation,
    /// What the numbers mean as colours.
    pub(super) encoding: Encoding,
}

impl Raster {
    /// Room for a whole picture of so many bits a sample (8 or 16).
    pub(super) fn new(size: Size, samples: Samples, depth: u8) -> Self {
        let pixel_type = match (samples, depth) {
            (Samples::Grey, 16) => PixelType::U16,
            (Samples::GreyAlpha, 16) => PixelType::U16x2,
            (Samples::Rgb, 16) => PixelType::U16x3,
            (Samples::Rgba | Samples::Cmyk, 16) => PixelType::U16x4,
            (Samples::Grey, _) => PixelType::U8,
            (Samples::GreyAlpha, _) => PixelType::U8x2,
            (Samples::Rgb, _) => PixelType::U8x3,
            (Samples::Rgba | Samples::Cmyk, _) => PixelType::U8x4,
        };
        Self {
            image: Image::new(size.width, size.height, pixel_type),
            samples,
            whole: size,
            stored: size,
            origin: (0, 0),
            orientation: Orientation::UPRIGHT,
            encoding: Encoding::Srgb,
        }
    }
}
