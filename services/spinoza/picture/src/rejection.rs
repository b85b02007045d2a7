//! Why a picture was not taken: used by everything in this folder, told to the uploader and to the log.

use std::error::Error;

use image::ImageError;

/// Where a picture can be saved again.
const ADVICE: &str = "Save the picture as JPEG, PNG, WebP or GIF and upload it again.";

/// Why there are no variants of an upload. The text is a plain sentence for whoever uploaded it;
/// the cause (`source`), where there is one, is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The bytes start like no picture we know of.
    #[error("This file is not a picture that we recognise. Choose a JPEG, PNG, WebP or GIF file.")]
    NotAnImage,
    /// A picture, but of a format or a kind that is not decoded here.
    #[error("{what} is not supported. {ADVICE}")]
    Unsupported {
        /// The format, or the kind within a format.
        what: &'static str,
    },
    /// More pixels than [`super::Limits`] allow.
    #[error(
        "The picture measures {width} x {height} pixels, which is too large: at most {max_side} pixels a side \
         and {} megapixels in all are allowed. Make it smaller and upload it again.",
        .max_pixels / 1_000_000
    )]
    TooLarge {
        /// In pixels, as the header says.
        width: u32,
        /// In pixels, as the header says.
        height: u32,
        /// The most pixels in all.
        max_pixels: u64,
        /// The longest side, in pixels.
        max_side: u32,
    },
    /// A side is shorter than [`super::Limits`] allow.
    #[error(
        "The picture measures {width} x {height} pixels, which is too small: each side must have at least \
         {min_side} pixels. Choose a larger picture."
    )]
    TooSmall {
        /// In pixels, as the header says.
        width: u32,
        /// In pixels, as the header says.
        height: u32,
        /// The shortest side, in pixels.
        min_side: u32,
    },
    /// The file breaks off or contradicts its format.
    #[error("The {format} file is damaged or incomplete. {ADVICE}")]
    Corrupt {
        /// What the file claims to be.
        format: &'static str,
        /// What the decoder said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nothing is wrong with the picture: a step of ours failed.
    #[error("The picture could not be processed. Try again later.")]
    Failed {
        /// Which step.
        step: &'static str,
        /// What that step said.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Rejection {
    /// A stable name of the reason, for events and answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnImage => "not_an_image",
            Self::Unsupported { .. } => "unsupported_image",
            Self::TooLarge { .. } => "image_too_large",
            Self::TooSmall { .. } => "image_too_small",
            Self::Corrupt { .. } => "image_corrupt",
            Self::Failed { .. } => "image_processing_failed",
        }
    }

    pub(super) fn corrupt(format: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt { format, source: source.into() }
    }

    pub(super) fn failed(step: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { step, source: source.into() }
    }

    /// What an error of the `image` crate says about a file of the format.
    pub(super) fn from_image(format: &'static str, unsupported: &'static str, error: ImageError) -> Self {
        match error {
            ImageError::Unsupported(_) => Self::Unsupported { what: unsupported },
            other => Self::corrupt(format, other),
        }
    }
}
