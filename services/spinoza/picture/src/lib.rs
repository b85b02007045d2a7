//! From the bytes somebody uploaded to square WebP pictures: pure, synchronous functions that do no I/O.
//! Work for a thread of the bounded pool, never for a request's or an actor's. Storage and events live elsewhere.

mod decode;
mod encode;
mod format;
mod gif;
mod jpeg;
mod png;
mod raster;
mod rejection;
mod square;
#[cfg(test)]
mod tests;
mod webp;

pub use rejection::Rejection;

/// The longest side the WebP format can hold, in pixels (RFC 9649, section 2.6).
const MAX_WEBP_SIDE: u32 = 16_383;

/// What an uploaded picture may measure; checked on its header, before anything is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most pixels in all (width times height). Decoding takes up to 8 bytes of memory for each.
    pub max_pixels: u64,
    /// The longest side, in pixels.
    pub max_side: u32,
    /// The shortest side, in pixels.
    pub min_side: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 50_000_000, max_side: 16_384, min_side: 16 }
    }
}

impl Limits {
    /// Refuses a picture of this size if it is larger or smaller than allowed.
    fn check(&self, width: u32, height: u32) -> Result<(), Rejection> {
        self.check_upper(width, height)?;
        if width.min(height) < self.min_side {
            return Err(Rejection::TooSmall { width, height, min_side: self.min_side });
        }
        Ok(())
    }

    /// Refuses a picture, or a part of one, that would take more memory than allowed.
    fn check_upper(&self, width: u32, height: u32) -> Result<(), Rejection> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels || width.max(height) > self.max_side {
            let (max_pixels, max_side) = (self.max_pixels, self.max_side);
            return Err(Rejection::TooLarge { width, height, max_pixels, max_side });
        }
        Ok(())
    }
}

/// One finished picture: a square, as WebP, without any metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Width and height, in pixels.
    pub side: u32,
    /// The WebP file. Equal input gives equal bytes, so that they can be addressed by their digest.
    pub bytes: Vec<u8>,
}

/// Makes one upright, centre-cropped square of each of the `sides` (in pixels, in that order) from a
/// JPEG, PNG, WebP or GIF (of an animation its first frame).
///
/// A picture smaller than a side is enlarged, so every side asked for is there. Colour profiles are ignored.
///
/// # Errors
/// A [`Rejection`] says what is wrong with the picture; only [`Rejection::Failed`] is our own fault.
pub fn optimise(input: &[u8], sides: &[u32], limits: &Limits) -> Result<Vec<Variant>, Rejection> {
    let Some(&largest) = sides.iter().max() else { return Ok(Vec::new()) };
    if largest > MAX_WEBP_SIDE || sides.contains(&0) {
        return Err(Rejection::failed("sides", format!("sides must be 1 to {MAX_WEBP_SIDE}, not {sides:?}")));
    }
    let raster = decode::decode(input, largest, limits)?;
    let orientation = raster.orientation;
    let mut variants = Vec::with_capacity(sides.len());
    for (mut picture, &side) in square::squares(raster, sides)?.into_iter().zip(sides) {
        // Turning comes after the reduction: here it moves thousands of pixels, before it millions.
        picture.apply_orientation(orientation);
        variants.push(Variant { side, bytes: encode::webp(&picture)? });
    }
    Ok(variants)
}
