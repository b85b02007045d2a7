//! What a picture takes before it is decoded: an upper bound, from its header and the preset alone.

use orrery_picture_header::{Header, Layout};

use super::png::MAX_BESIDE_BYTES;
use super::preset::Preset;

/// What any job takes: tables, encoders' small buffers, the allocator's own.
const BASE_BYTES: u64 = 8 * 1024 * 1024;

/// A pixel of a variant while it is resized, converted, turned and encoded, in bytes; libwebp's own planes and bits are the most of it.
const VARIANT_PIXEL_BYTES: u64 = 48;

/// What decoding and encoding take at most, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Memory, the file itself among it.
    pub bytes: u64,
}

/// What making the preset's variants of a file of `file_bytes` takes at most.
#[must_use]
pub fn cost(header: &Header, file_bytes: u64, preset: &Preset) -> Cost {
    let pixels = u64::from(header.width) * u64::from(header.height);
    let row = u64::from(header.width);
    let decoded = match &header.layout {
        // Never more than the whole at full size; most are reduced.
        Layout::Jpeg { components, .. } => {
            let samples = u64::try_from(components.len()).unwrap_or(4).clamp(1, 4);
            pixels * samples + jpeg_working_bytes(header)
        }
        Layout::Png { channels, depth, .. } => {
            let bytes = if *depth == 16 { 2 } else { 1 };
            let beside = u64::try_from(MAX_BESIDE_BYTES).unwrap_or(u64::MAX);
            pixels * u64::from(*channels) * bytes + row * 8 * 4 + beside
        }
        // A lossless bitstream, and a lossy one's opacity, are held whole beside the output.
        Layout::WebP { is_animated: false, .. } => pixels * 8 + row * 64,
        Layout::WebP { is_animated: true, .. } => pixels * 16 + row * 64,
        Layout::Gif { width, height, .. } => pixels * 4 + u64::from(*width) * u64::from(*height),
    };
    let made = preset
        .sizes
        .iter()
        .map(|size| (u64::from(size.width) * u64::from(size.height)).min(pixels))
        .sum::<u64>();
    // Resizing goes across first: rows of the wanted width, as high as the picture.
    let widest = preset.sizes.iter().map(|size| u64::from(size.width)).max().unwrap_or(0);
    let across = widest.min(row) * u64::from(header.height) * 8;
    let bytes = BASE_BYTES + file_bytes + decoded + across + made * VARIANT_PIXEL_BYTES;
    Cost { bytes }
}

/// What libjpeg takes beside the pixels it gives, in bytes: all coefficients where there are many scans, and rows of blocks.
pub(super) fn jpeg_working_bytes(header: &Header) -> u64 {
    const BLOCK: u64 = 8;
    const COEFFICIENT_BYTES: u64 = 2;
    /// Rows of blocks, in samples a pixel of width and component: two rows of blocks of the tallest component, and the upsampled.
    const ROWS: u64 = 160;
    /// Tables, input state, the smallest pools.
    const TABLES_BYTES: u64 = 1024 * 1024;
    let Layout::Jpeg { components, has_many_scans, .. } = &header.layout else { return 0 };
    let most =
        |side: fn(&orrery_picture_header::Component) -> u8| components.iter().map(side).max().unwrap_or(1);
    let (across, down) =
        (u64::from(most(|component| component.across)), u64::from(most(|component| component.down)));
    let samples: u64 = components
        .iter()
        .map(|component| {
            let blocks = |side: u32, own: u8, most: u64| {
                u64::from(side).div_ceil(BLOCK * most) * u64::from(own) * BLOCK
            };
            blocks(header.width, component.across, across) * blocks(header.height, component.down, down)
        })
        .sum();
    let count = u64::try_from(components.len()).unwrap_or(4);
    let rows = (u64::from(header.width) + BLOCK * across) * count * ROWS;
    TABLES_BYTES + rows + if *has_many_scans { samples * COEFFICIENT_BYTES } else { 0 }
}
