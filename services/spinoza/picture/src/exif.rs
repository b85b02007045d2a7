//! How a picture was held, as its Exif block (a TIFF file in small) says: Exif 2.32, tag 274. Nothing else of the block is read.

use image::DynamicImage;
use image::metadata;

const TAG: u16 = 0x0112;
/// An entry of a directory: tag, type, count, and the value or where it is.
const ENTRY_BYTES: usize = 12;

/// How stored pixels are turned so that the picture stands upright; 1 to 8 by the table of Exif 2.32, 4.6.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    pub(super) const UPRIGHT: Self = Self(1);

    /// What the first of the blocks says that says something usable; upright where none does.
    pub(super) fn of_blocks<'a>(blocks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        blocks.into_iter().find_map(Self::of_block).unwrap_or(Self::UPRIGHT)
    }

    pub(super) const fn number(self) -> u8 {
        self.0
    }

    /// Whether width and height change places.
    pub(super) const fn is_sideways(self) -> bool {
        self.0 >= 5
    }

    pub(super) fn apply(self, picture: &mut DynamicImage) {
        if let Some(orientation) = metadata::Orientation::from_exif(self.0) {
            picture.apply_orientation(orientation);
        }
    }

    fn of_block(block: &[u8]) -> Option<Self> {
        // Some writers put the prefix of the JPEG segment before the block in other containers too.
        let tiff = Tiff::new(block.strip_prefix(b"Exif\0\0").unwrap_or(block))?;
        let directory = tiff.number(4, 4)?;
        let count = tiff.number(directory, 2)?;
        (0..count)
            .map(|index| directory.checked_add(2)?.checked_add(index.checked_mul(ENTRY_BYTES)?))
            .map_while(|entry| {
                entry.filter(|entry| tiff.block.len().checked_sub(ENTRY_BYTES) >= Some(*entry))
            })
            .filter(|entry| tiff.number(*entry, 2) == Some(TAG.into()))
            .find_map(|entry| tiff.value(entry))
            .filter(|value| (1..=8).contains(value))
            .map(Self)
    }
}

struct Tiff<'a> {
    block: &'a [u8],
    is_big_endian: bool,
}

impl<'a> Tiff<'a> {
    fn new(block: &'a [u8]) -> Option<Self> {
        let is_big_endian = match block.first_chunk()? {
            b"MM\0*" => true,
            b"II*\0" => false,
            _ => return None,
        };
        Some(Self { block, is_big_endian })
    }

    /// An unsigned number of `size` bytes, at most four.
    fn number(&self, at: usize, size: usize) -> Option<usize> {
        let bytes = self.block.get(at..at.checked_add(size)?)?;
        let add = |number: usize, byte: &u8| (number << 8) | usize::from(*byte);
        Some(if self.is_big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    }

    /// The first value of an entry of any numeric type, where it is a small whole number. Negative ones are none of ours.
    fn value(&self, entry: usize) -> Option<u8> {
        const FLOAT: usize = 11;
        const DOUBLE: usize = 12;
        let value = entry.checked_add(8)?;
        let elsewhere = || self.number(value, 4);
        let number = match self.number(entry.checked_add(2)?, 2)? {
            // Bytes, shorts and longs, without and with a sign.
            1 | 6 => self.number(value, 1)?,
            3 | 8 => self.number(value, 2)?,
            4 | 9 => self.number(value, 4)?,
            // Fractions.
            5 | 10 => {
                let at = elsewhere()?;
                let (above, below) = (self.number(at, 4)?, self.number(at.checked_add(4)?, 4)?);
                above.checked_div(below).filter(|whole| whole * below == above)?
            }
            FLOAT => {
                let bits = u32::try_from(self.number(value, 4)?).ok()?;
                return small(f32::from_bits(bits).into());
            }
            DOUBLE => {
                let at = elsewhere()?;
                let bytes: [u8; 8] = self.block.get(at..at.checked_add(8)?)?.try_into().ok()?;
                return small(if self.is_big_endian {
                    f64::from_be_bytes(bytes)
                } else {
                    f64::from_le_bytes(bytes)
                });
            }
            _ => return None,
        };
        u8::try_from(number).ok()
    }
}

fn small(value: f64) -> Option<u8> {
    (1..=8).find(|number| f64::from(*number) == value)
}
