//! The header of a PNG (ISO/IEC 15948): its first chunk.

use super::scanner::Step;
use super::{Fault, Format, Header, Layout};

/// Length and type of the chunk, then the 13 bytes of IHDR; their checksum is the decoder's business.
pub(super) const TAKE: usize = 4 + 4 + 13;

pub(super) struct Png;

impl Png {
    pub(super) fn step(&self, chunk: &[u8]) -> Result<Step, Fault> {
        let corrupt = |why| Fault::corrupt(Format::Png, why);
        let &[
            0,
            0,
            0,
            13,
            b'I',
            b'H',
            b'D',
            b'R',
            w0,
            w1,
            w2,
            w3,
            h0,
            h1,
            h2,
            h3,
            depth,
            color,
            _,
            _,
            interlace,
        ] = chunk
        else {
            return Err(corrupt("it does not start with its header"));
        };
        // A palette expands to colours; a transparent colour or palette entry adds opacity.
        let channels = match color {
            0 | 4 => 2,
            2 | 3 | 6 => 4,
            _ => return Err(corrupt("its colour type does not exist")),
        };
        let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
        if width == 0 || height == 0 {
            return Err(corrupt("it has no pixels"));
        }
        let layout = Layout::Png { channels, depth, is_interlaced: interlace != 0 };
        Ok(Step::Done(Header { width, height, layout }))
    }
}
