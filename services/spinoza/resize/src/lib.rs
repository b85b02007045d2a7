//! The resizer as `orrery-picture` calls it. A crate of its own for one reason: fast_image_resize is generic over every kind of pixel, and
//! is compiled anew, for two minutes, with whoever calls it. What is resized to what is decided there.

use fast_image_resize::{FilterType, MulDiv, ResizeAlg, ResizeOptions};

pub use fast_image_resize::{PixelType, images::Image};

/// The pixels are not what the resizer takes.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// A size or a part that is none.
    #[error("the part cannot be resized")]
    Resize(#[from] fast_image_resize::ResizeError),
    /// Opacity that cannot be applied.
    #[error("the opacity cannot be applied")]
    Alpha(#[from] fast_image_resize::MulDivImagesError),
    /// Pixels without opacity.
    #[error("the pixels have no opacity")]
    NoAlpha(#[from] fast_image_resize::ImageError),
}

/// A part of a picture, in its pixels and between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// The left edge.
    pub left: f64,
    /// The upper edge.
    pub top: f64,
    /// The width.
    pub width: f64,
    /// The height.
    pub height: f64,
}

/// Resizes one picture after another, and keeps its working memory meanwhile.
#[derive(Default)]
pub struct Resizer {
    inner: fast_image_resize::Resizer,
    alpha: MulDiv,
}

impl Resizer {
    /// A part of a picture in another size, by Lanczos' filter. Opacity is a sample as others are: multiply by it before.
    ///
    /// # Errors
    /// The part is beyond the picture.
    pub fn resize(
        &mut self,
        image: &Image,
        part: Part,
        width: u32,
        height: u32,
    ) -> Result<Image<'static>, ResizeError> {
        let options = ResizeOptions::new()
            .crop(part.left, part.top, part.width, part.height)
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .use_alpha(false);
        let mut resized = Image::new(width, height, image.pixel_type());
        self.inner.resize(image, &mut resized, &options)?;
        Ok(resized)
    }

    /// Multiplies colours by their opacity.
    ///
    /// # Errors
    /// The pixels have none.
    pub fn multiply_alpha(&self, image: &mut Image) -> Result<(), ResizeError> {
        Ok(self.alpha.multiply_alpha_inplace(image)?)
    }

    /// The opposite.
    ///
    /// # Errors
    /// The pixels have none.
    pub fn divide_alpha(&self, image: &mut Image) -> Result<(), ResizeError> {
        Ok(self.alpha.divide_alpha_inplace(image)?)
    }
}
