//! Cuts and resizes. Pictures with opacity are resized with their colours multiplied by it, or the colour of invisible pixels would
//! bleed into the visible ones. Colours are brought to sRGB afterwards, where there are few pixels left.

use image::DynamicImage;
use orrery_picture_resize::{Image, Part, ResizeError, Resizer};

use super::color::Converter;
use super::geometry::{Plan, plans};
use super::preset::{Preset, Size};
use super::raster::Raster;
use super::{Rejection, geometry};

const STEP: &str = "resize";

/// One picture for each size that the preset makes of this one, largest first; RGB, or RGBA where there is opacity.
/// Not turned upright yet.
pub(super) fn pictures(raster: Raster, preset: &Preset) -> Result<Vec<DynamicImage>, Rejection> {
    let plans = plans(raster.stored, raster.orientation, preset);
    let converter = Converter::new(&raster.encoding, raster.samples, raster.image.pixel_type());
    let has_alpha = raster.samples.has_alpha();
    let (stored, whole, (left, top)) = (raster.stored, raster.whole, raster.origin);
    let mut image = raster.image;
    let failed = |error: ResizeError| Rejection::failed(STEP, error);
    let mut resizer = Resizer::default();
    if has_alpha {
        resizer.multiply_alpha(&mut image).map_err(failed)?;
    }
    let mut pictures = Vec::with_capacity(plans.len());
    // The one before, when it shows the same: the smaller ones are made from it.
    let mut before: Option<(Plan, Image<'static>)> = None;
    for plan in plans {
        let resized = match &before {
            Some((larger, from)) if larger.area == plan.area => {
                let Size { width, height } = larger.size;
                let part = Part { left: 0.0, top: 0.0, width: width.into(), height: height.into() };
                resizer.resize(from, part, plan.size.width, plan.size.height)
            }
            _ => {
                let across = f64::from(whole.width) / f64::from(stored.width);
                let down = f64::from(whole.height) / f64::from(stored.height);
                let geometry::Area { left: x, top: y, width, height } = plan.area;
                let left = (f64::from(x) * across - f64::from(left)).max(0.0);
                let top = (f64::from(y) * down - f64::from(top)).max(0.0);
                // Rounding must not reach beyond the pixels there are.
                let width = (f64::from(width) * across).min(f64::from(image.width()) - left);
                let height = (f64::from(height) * down).min(f64::from(image.height()) - top);
                resizer.resize(&image, Part { left, top, width, height }, plan.size.width, plan.size.height)
            }
        }
        .map_err(failed)?;
        let mut straight = resized.copy();
        if has_alpha {
            resizer.divide_alpha(&mut straight).map_err(failed)?;
        }
        pictures.push(converter.convert(plan.size, straight.into_vec())?);
        before = Some((plan, resized));
    }
    Ok(pictures)
}
