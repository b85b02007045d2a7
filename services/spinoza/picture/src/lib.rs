//! From the bytes somebody uploaded to the pictures of a preset: pure, synchronous functions that do no I/O.
//! Work for a worker process of `orrery-picture-worker`, never for a request's or an actor's thread. Storage and events live elsewhere.

mod color;
mod cost;
mod decode;
mod encode;
mod exif;
mod geometry;
mod gif;
mod jpeg;
mod png;
mod preset;
mod raster;
mod rejection;
mod resize;
#[cfg(test)]
mod tests;
mod webp;

pub use cost::{Cost, cost};
pub use orrery_picture_header::{Fault, Format, Header, Limits, Scanner, read as read_header};
pub use preset::{Fit, Focus, MAX_SIDE, Output, OutputFormat, Preset, Size};
pub use rejection::Rejection;

/// One finished picture, without any metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Its format.
    pub format: OutputFormat,
    /// The file. Equal input gives equal bytes, so that they can be addressed by their digest.
    pub bytes: Vec<u8>,
}

/// What becomes of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Optimised {
    /// Largest first; of each size one for each of the preset's outputs, in their order.
    pub variants: Vec<Variant>,
    /// A placeholder of some 25 bytes (ThumbHash), to be shown while the picture is fetched.
    pub thumbhash: Vec<u8>,
}

/// Makes the preset's pictures, upright and in sRGB, from a JPEG, PNG, WebP or GIF (of an animation its first frame).
///
/// No variant has more pixels than the part of the original that it shows: sizes that would are made as large as that, once.
///
/// # Errors
/// A [`Rejection`] says what is wrong with the picture; only [`Rejection::Failed`] is our own fault.
pub fn optimise(input: &[u8], preset: &Preset, limits: &Limits) -> Result<Optimised, Rejection> {
    preset.check().map_err(|fault| Rejection::failed("preset", fault))?;
    let raster = decode::decode(input, preset, limits)?;
    let orientation = raster.orientation;
    let mut variants = Vec::new();
    let mut thumbhash = Vec::new();
    for mut picture in resize::pictures(raster, preset)? {
        // Turning comes after the reduction: here it moves thousands of pixels, before it millions.
        orientation.apply(&mut picture);
        for output in &preset.outputs {
            let bytes = encode::encode(&picture, *output)?;
            let (width, height) = (picture.width(), picture.height());
            variants.push(Variant { width, height, format: output.format, bytes });
        }
        // Of the last, which is the smallest.
        thumbhash = encode::thumbhash(&picture);
    }
    Ok(Optimised { variants, thumbhash })
}
