//! Decoded pixels on their way from a decoder to the resizer, in the decoder's own pixel type: no full-size copy
//! is made to unify them.

use fast_image_resize::PixelType;
use fast_image_resize::images::Image;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder};

use super::Rejection;

/// A decoded picture, not yet cropped, turned or reduced.
pub(super) struct Raster {
    /// The pixels, rows from the top, without padding.
    pub(super) image: Image<'static>,
    /// What the bytes of a pixel mean; samples of 16 bits are in the machine's byte order.
    pub(super) color: ColorType,
    /// Whether the last sample of a pixel is opacity; if not, a fourth one is only padding.
    pub(super) has_alpha: bool,
    /// How to turn the pixels so that the picture stands upright.
    pub(super) orientation: Orientation,
}

impl Raster {
    /// Room for a picture; none where the resizer does not know the pixel type.
    pub(super) fn new(width: u32, height: u32, color: ColorType) -> Option<Self> {
        let pixel_type = match color {
            ColorType::L8 => PixelType::U8,
            ColorType::La8 => PixelType::U8x2,
            ColorType::Rgb8 => PixelType::U8x3,
            ColorType::Rgba8 => PixelType::U8x4,
            ColorType::L16 => PixelType::U16,
            ColorType::La16 => PixelType::U16x2,
            ColorType::Rgb16 => PixelType::U16x3,
            ColorType::Rgba16 => PixelType::U16x4,
            _ => return None,
        };
        let image = Image::new(width, height, pixel_type);
        Some(Self { image, color, has_alpha: color.has_alpha(), orientation: Orientation::NoTransforms })
    }

    /// Reads the whole picture from a decoder whose dimensions have been checked.
    pub(super) fn read(
        decoder: impl ImageDecoder,
        format: &'static str,
        unsupported: &'static str,
    ) -> Result<Self, Rejection> {
        let (width, height) = decoder.dimensions();
        let mut raster = Self::new(width, height, decoder.color_type())
            .ok_or(Rejection::Unsupported { what: unsupported })?;
        decoder
            .read_image(raster.image.buffer_mut())
            .map_err(|error| Rejection::from_image(format, unsupported, error))?;
        Ok(raster)
    }
}

/// What an Exif block (a TIFF file in small) says about the orientation; upright where it says nothing usable.
pub(super) fn orientation(exif: Option<&[u8]>) -> Orientation {
    // Some writers put the prefix of the JPEG segment before the block in other containers too.
    exif.map(|block| block.strip_prefix(b"Exif\0\0").unwrap_or(block))
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}
