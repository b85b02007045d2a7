//! What an uploaded picture may measure.

use super::{Fault, Header};

/// What an uploaded picture may measure; checked on its header, before anything is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most pixels in all (width times height).
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
    /// Whether a picture with this header is taken.
    ///
    /// # Errors
    /// It is larger or smaller than allowed.
    pub fn check(&self, header: &Header) -> Result<(), Fault> {
        let (width, height) = (header.width, header.height);
        self.check_upper(width, height)?;
        if width.min(height) < self.min_side {
            return Err(Fault::TooSmall { width, height, min_side: self.min_side });
        }
        Ok(())
    }

    /// Whether a picture, or a part of one, takes no more memory than allowed.
    ///
    /// # Errors
    /// It is larger than allowed.
    pub fn check_upper(&self, width: u32, height: u32) -> Result<(), Fault> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels || width.max(height) > self.max_side {
            let (max_pixels, max_side) = (self.max_pixels, self.max_side);
            return Err(Fault::TooLarge { width, height, max_pixels, max_side });
        }
        Ok(())
    }
}
