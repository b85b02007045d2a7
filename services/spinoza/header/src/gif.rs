//! The header of a GIF (GIF89a specification): the logical screen, then everything up to the first frame, which may be larger.

use super::scanner::Step;
use super::{Fault, Format, Header, Layout};

/// The logical screen descriptor.
pub(super) const TAKE: usize = 7;

const EXTENSION: u8 = 0x21;
const IMAGE: u8 = 0x2c;
const HAS_PALETTE: u8 = 0x80;

enum Wanted {
    Screen,
    Block,
    ExtensionLabel,
    SubBlock,
    Frame,
}

pub(super) struct Gif {
    wanted: Wanted,
    screen: (u32, u32),
}

impl Gif {
    pub(super) const fn new() -> Self {
        Self { wanted: Wanted::Screen, screen: (0, 0) }
    }

    pub(super) fn step(&mut self, taken: &[u8]) -> Result<Step, Fault> {
        let corrupt = |why| Fault::corrupt(Format::Gif, why);
        let side = |low, high| u32::from(u16::from_le_bytes([low, high]));
        match (&self.wanted, taken) {
            (Wanted::Screen, &[w0, w1, h0, h1, flags, _, _]) => {
                self.screen = (side(w0, w1), side(h0, h1));
                self.wanted = Wanted::Block;
                let palette = if flags & HAS_PALETTE == 0 { 0 } else { 3 << ((flags & 7) + 1) };
                Ok(Step::Next { skip: palette, take: 1 })
            }
            (Wanted::Block, [EXTENSION]) => {
                self.wanted = Wanted::ExtensionLabel;
                Ok(Step::take(1))
            }
            (Wanted::Block, [IMAGE]) => {
                self.wanted = Wanted::Frame;
                Ok(Step::take(9))
            }
            (Wanted::ExtensionLabel, _) => {
                self.wanted = Wanted::SubBlock;
                Ok(Step::take(1))
            }
            (Wanted::SubBlock, [0]) => {
                self.wanted = Wanted::Block;
                Ok(Step::take(1))
            }
            (Wanted::SubBlock, &[length]) => Ok(Step::Next { skip: length.into(), take: 1 }),
            (Wanted::Frame, &[x0, x1, y0, y1, w0, w1, h0, h1, _]) => {
                self.first_frame((side(x0, x1), side(y0, y1)), (side(w0, w1), side(h0, h1)))
            }
            _ => Err(corrupt("it has no frame")),
        }
    }

    /// As browsers have it: a first frame that is larger than the screen is the screen.
    fn first_frame(&self, (left, top): (u32, u32), (width, height): (u32, u32)) -> Result<Step, Fault> {
        if width == 0 || height == 0 {
            return Err(Fault::corrupt(Format::Gif, "it has no pixels"));
        }
        let (screen_width, screen_height) = self.screen;
        let header = if width > screen_width || height > screen_height {
            Header { width, height, layout: Layout::Gif { left: 0, top: 0, width, height } }
        } else {
            Header {
                width: screen_width,
                height: screen_height,
                layout: Layout::Gif { left, top, width, height },
            }
        };
        Ok(Step::Done(header))
    }
}
