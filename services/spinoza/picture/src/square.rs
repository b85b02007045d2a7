//! Crops the middle square and resizes it to each side. Pictures with opacity are resized with their colours
//! multiplied by it, or the colour of invisible pixels would bleed into the visible ones.

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, MulDiv, ResizeAlg, ResizeOptions, Resizer};
use image::{ColorType, DynamicImage, ImageBuffer, Pixel};

use super::Rejection;
use super::raster::Raster;

const STEP: &str = "resize";

/// One square for each of the sides (in pixels), in that order; RGB, or RGBA where the picture has opacity.
/// Not turned upright yet: a square cut from the middle can be turned afterwards.
pub(super) fn squares(raster: Raster, sides: &[u32]) -> Result<Vec<DynamicImage>, Rejection> {
    let Raster { image: mut base, color, has_alpha, .. } = raster;
    let alpha = MulDiv::new();
    if has_alpha {
        alpha.multiply_alpha_inplace(&mut base).map_err(|error| Rejection::failed(STEP, error))?;
    }
    let mut resizer = Resizer::new();
    let largest = sides.iter().copied().max().unwrap_or(0);
    if base.width().min(base.height()) > largest {
        // The smaller ones are then made from the largest, and the full picture's memory is free.
        // Where the largest is an enlargement they are made from the (small) picture itself.
        base = middle_square(&mut resizer, &base, largest)?;
    }
    sides
        .iter()
        .map(|&side| {
            let mut square = middle_square(&mut resizer, &base, side)?;
            if has_alpha {
                alpha.divide_alpha_inplace(&mut square).map_err(|error| Rejection::failed(STEP, error))?;
            }
            to_rgb(square, color, has_alpha)
        })
        .collect()
}

/// The largest square in the middle, resized to the side in pixels.
fn middle_square(resizer: &mut Resizer, image: &Image, side: u32) -> Result<Image<'static>, Rejection> {
    let (width, height) = (image.width(), image.height());
    let edge = width.min(height);
    // Lanczos keeps detail when reducing, but rings around edges when enlarging.
    let filter = if side > edge { FilterType::CatmullRom } else { FilterType::Lanczos3 };
    let options = ResizeOptions::new()
        .crop(f64::from((width - edge) / 2), f64::from((height - edge) / 2), f64::from(edge), f64::from(edge))
        .resize_alg(ResizeAlg::Convolution(filter))
        .use_alpha(false);
    let mut square = Image::new(side, side, image.pixel_type());
    resizer.resize(image, &mut square, &options).map_err(|error| Rejection::failed(STEP, error))?;
    Ok(square)
}

/// Brings a small square of any pixel type to 8 bits a sample, with colours.
fn to_rgb(square: Image<'static>, color: ColorType, has_alpha: bool) -> Result<DynamicImage, Rejection> {
    let side = square.width();
    let bytes = square.into_vec();
    let any = match color {
        ColorType::L8 => buffer(side, bytes).map(DynamicImage::ImageLuma8),
        ColorType::La8 => buffer(side, bytes).map(DynamicImage::ImageLumaA8),
        ColorType::Rgb8 => buffer(side, bytes).map(DynamicImage::ImageRgb8),
        ColorType::Rgba8 => buffer(side, bytes).map(DynamicImage::ImageRgba8),
        ColorType::L16 => buffer(side, wide(&bytes)).map(DynamicImage::ImageLuma16),
        ColorType::La16 => buffer(side, wide(&bytes)).map(DynamicImage::ImageLumaA16),
        ColorType::Rgb16 => buffer(side, wide(&bytes)).map(DynamicImage::ImageRgb16),
        ColorType::Rgba16 => buffer(side, wide(&bytes)).map(DynamicImage::ImageRgba16),
        _ => None,
    }
    .ok_or_else(|| Rejection::failed(STEP, format!("a square of {side} pixels cannot be {color:?}")))?;
    Ok(if has_alpha { any.into_rgba8().into() } else { any.into_rgb8().into() })
}

fn buffer<P: Pixel>(side: u32, samples: Vec<P::Subpixel>) -> Option<ImageBuffer<P, Vec<P::Subpixel>>> {
    ImageBuffer::from_raw(side, side, samples)
}

/// Samples of 16 bits from their bytes in the machine's order.
fn wide(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_ne_bytes(*pair)).collect()
}
