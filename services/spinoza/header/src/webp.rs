//! The header of a WebP (RFC 9649): the first chunk after the RIFF header, which is a canvas or a bitstream.

use super::scanner::Step;
use super::{Fault, Format, Header, Layout};

/// Name and size of the first chunk, then its first ten bytes; a VP8L chunk tells all in the first five of them.
pub(super) const TAKE: usize = 4 + 4 + LOSSLESS_BYTES;

const LOSSLESS_BYTES: usize = 5;
const OTHER_BYTES: usize = 10;

const ALPHA: u8 = 0x10;
const ANIMATION: u8 = 0x02;

pub(super) struct WebP {
    /// Name, size and what was taken of the first chunk.
    start: Vec<u8>,
}

impl WebP {
    pub(super) const fn new() -> Self {
        Self { start: Vec::new() }
    }

    pub(super) fn step(&mut self, taken: &[u8]) -> Result<Step, Fault> {
        let corrupt = |why| Fault::corrupt(Format::WebP, why);
        self.start.extend_from_slice(taken);
        let (name, data) = self.start.split_at_checked(8).unwrap_or_default();
        match (name.get(..4), data) {
            // A signature, 14 bits each, less one, then whether there is opacity.
            (Some(b"VP8L"), &[0x2f, b0, b1, b2, b3, ..]) => {
                let bits = u32::from_le_bytes([b0, b1, b2, b3]);
                let layout = Layout::WebP { has_alpha: bits >> 28 & 1 == 1, is_animated: false };
                Ok(done((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1, layout))
            }
            (Some(b"VP8L"), _) => Err(corrupt("its bitstream has no signature")),
            (Some(b"VP8X"), &[flags, _, _, _, w0, w1, w2, h0, h1, h2]) => {
                let layout =
                    Layout::WebP { has_alpha: flags & ALPHA != 0, is_animated: flags & ANIMATION != 0 };
                let side = |bytes| u32::from_le_bytes(bytes) + 1;
                Ok(done(side([w0, w1, w2, 0]), side([h0, h1, h2, 0]), layout))
            }
            // Three bytes of frame tag, three of start code, then 14 bits each; the upper two are a scale (RFC 6386, 9.1).
            (Some(b"VP8 "), &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1]) => {
                let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
                let (width, height) = (side([w0, w1]), side([h0, h1]));
                if width == 0 || height == 0 {
                    return Err(corrupt("it has no pixels"));
                }
                Ok(done(width, height, Layout::WebP { has_alpha: false, is_animated: false }))
            }
            (Some(b"VP8X" | b"VP8 "), data) if data.len() < OTHER_BYTES => {
                Ok(Step::take(OTHER_BYTES - LOSSLESS_BYTES))
            }
            (Some(b"VP8 "), _) => Err(corrupt("its bitstream has no start code")),
            _ => Err(corrupt("it does not start with its header")),
        }
    }
}

const fn done(width: u32, height: u32, layout: Layout) -> Step {
    Step::Done(Header { width, height, layout })
}
