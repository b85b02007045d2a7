//! What a picture file's header says: format, dimensions and layout, read in one pass over chunks as they come, and the limits
//! that they are held to. The upload (autha) and the decoder (spinoza) both ask here, so that they agree. Nothing is decoded.

mod fault;
mod format;
mod gif;
mod jpeg;
mod limits;
mod png;
mod scanner;
#[cfg(test)]
mod tests;
mod webp;

pub use fault::Fault;
pub use format::Format;
pub use jpeg::Component;
pub use limits::Limits;
pub use scanner::{Scanner, read};

/// What the header says about the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// In pixels, as stored: an orientation is not applied.
    pub width: u32,
    /// In pixels, as stored.
    pub height: u32,
    /// What only files of the format say.
    pub layout: Layout,
}

/// What only files of one format say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// ITU-T T.81.
    Jpeg {
        /// The components of the frame: one for grey, three for colours, four for ink.
        components: Vec<Component>,
        /// In bits a sample.
        precision: u8,
        /// Whether it is not made of blocks, so that it cannot be reduced while it is decoded.
        is_lossless: bool,
        /// Whether all coefficients of the picture are held before the first row comes out.
        has_many_scans: bool,
    },
    /// ISO/IEC 15948.
    Png {
        /// Samples a pixel once palettes and transparency are expanded, at most.
        channels: u8,
        /// In bits a sample.
        depth: u8,
        /// Whether the rows come in seven passes.
        is_interlaced: bool,
    },
    /// RFC 9649.
    WebP {
        /// Whether pixels may be transparent.
        has_alpha: bool,
        /// Whether there are several frames.
        is_animated: bool,
    },
    /// The first frame is all that counts.
    Gif {
        /// The first frame's left edge on the canvas, in pixels.
        left: u32,
        /// The first frame's upper edge on the canvas, in pixels.
        top: u32,
        /// The first frame's width, in pixels.
        width: u32,
        /// The first frame's height, in pixels.
        height: u32,
    },
}

impl Header {
    /// The format.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self.layout {
            Layout::Jpeg { .. } => Format::Jpeg,
            Layout::Png { .. } => Format::Png,
            Layout::WebP { .. } => Format::WebP,
            Layout::Gif { .. } => Format::Gif,
        }
    }
}
