//! Why a file is refused by its header; told to the uploader, so every text is a plain sentence.

use super::Format;

/// Where a picture can be saved again.
pub(super) const ADVICE: &str = "Save the picture as JPEG, PNG, WebP or GIF and upload it again.";

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes start like no picture we know of.
    #[error("This file is not a picture that we recognise. Choose a JPEG, PNG, WebP or GIF file.")]
    NotAnImage,
    /// A picture, but of a format or a kind that is not taken.
    #[error("{what} is not supported. {ADVICE}")]
    Unsupported {
        /// The format, or the kind within a format.
        what: &'static str,
    },
    /// The header breaks off or contradicts its format.
    #[error("The {} file is damaged or incomplete: {why}. {ADVICE}", .format.name())]
    Corrupt {
        /// What the file claims to be.
        format: Format,
        /// What is wrong.
        why: &'static str,
    },
    /// More pixels than the limits allow.
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
    /// A side is shorter than the limits allow.
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
}

impl Fault {
    /// A stable name of the reason, for events and answers.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAnImage => "not_an_image",
            Self::Unsupported { .. } => "unsupported_image",
            Self::Corrupt { .. } => "image_corrupt",
            Self::TooLarge { .. } => "image_too_large",
            Self::TooSmall { .. } => "image_too_small",
        }
    }

    pub(super) const fn corrupt(format: Format, why: &'static str) -> Self {
        Self::Corrupt { format, why }
    }
}
