//! Why a picture was not taken: used by everything in this folder, told to the uploader and to the log.

use std::error::Error;

use image::ImageError;
use orrery_picture_header::{Fault, Format};

/// Where a picture can be saved again.
const ADVICE: &str = "Save the picture as JPEG, PNG, WebP or GIF and upload it again.";

/// Why there are no variants of an upload. The text is a plain sentence for whoever uploaded it;
/// the cause (`source`), where there is one, is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// Its header says enough.
    #[error(transparent)]
    Header(#[from] Fault),
    /// The file breaks off or contradicts its format after its header.
    #[error("The {} file is damaged or incomplete. {ADVICE}", .format.name())]
    Corrupt {
        /// What the file claims to be.
        format: Format,
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
            Self::Header(fault) => fault.code(),
            Self::Corrupt { .. } => "image_corrupt",
            Self::Failed { .. } => "image_processing_failed",
        }
    }

    pub(super) fn corrupt(format: Format, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt { format, source: source.into() }
    }

    pub(super) fn failed(step: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { step, source: source.into() }
    }

    pub(super) const fn unsupported(what: &'static str) -> Self {
        Self::Header(Fault::Unsupported { what })
    }

    /// What an error of the `image` crate says about a file of the format.
    pub(super) fn from_image(format: Format, unsupported: &'static str, error: ImageError) -> Self {
        match error {
            ImageError::Unsupported(_) => Self::unsupported(unsupported),
            other => Self::corrupt(format, other),
        }
    }
}
