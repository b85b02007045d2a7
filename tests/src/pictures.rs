//! Good and bad pictures, made by code; one photograph is carried by the repository.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::codecs::gif::GifEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, Frame, ImageEncoder, RgbImage, RgbaImage};

/// What ImageDescription says in [`with_exif`]: it must not be found in any variant.
pub const DESCRIPTION: &str = "taken at a place that nobody must know";

/// The photograph of the repository, a JPEG (NASA's, in the public domain).
///
/// # Errors
/// The file is missing.
pub fn astronaut() -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pictures/astronaut.jpg");
    std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
}

/// A PNG of `width` x `height` pixels: red grows to the right, green downwards, so that a turn can be seen.
///
/// # Errors
/// The encoder refuses the dimensions.
pub fn gradient_png(width: u32, height: u32) -> Result<Vec<u8>> {
    png(&gradient(width, height), CompressionType::Fast)
}

/// The same as a lossless WebP.
///
/// # Errors
/// The encoder refuses the dimensions.
pub fn gradient_webp(width: u32, height: u32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let picture = gradient(width, height);
    WebPEncoder::new_lossless(&mut bytes).write_image(
        picture.as_raw(),
        width,
        height,
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}

/// The same as a GIF of `frames` frames.
///
/// # Errors
/// The encoder refuses the dimensions.
pub fn gradient_gif(width: u32, height: u32, frames: u32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let picture = image::DynamicImage::from(gradient(width, height)).into_rgba8();
    let frame: fn(RgbaImage) -> Frame = Frame::new;
    GifEncoder::new(&mut bytes).encode_frames((0..frames).map(|_| frame(picture.clone())))?;
    Ok(bytes)
}

/// A PNG of one pixel.
///
/// # Errors
/// None is known.
pub fn one_pixel_png() -> Result<Vec<u8>> {
    gradient_png(1, 1)
}

/// A PNG that nothing compresses, of at most `bytes` bytes and of little less (a square of noise).
///
/// # Errors
/// `bytes` is less than 1000, or more than 4 GiB.
pub fn noise_png(bytes: usize) -> Result<Vec<u8>> {
    ensure!(bytes >= 1000, "too small for a PNG of noise: {bytes} bytes");
    // Uncompressed: 3 bytes a pixel, one a row, and less than a thousandth for blocks and chunks.
    let pixels = (bytes - 200 - bytes / 1000) / 3;
    let side = u32::try_from(pixels.isqrt() - 1)?;
    // xorshift64: the same noise in every run.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut picture = RgbImage::new(side, side);
    for pixel in picture.chunks_exact_mut(3) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pixel.copy_from_slice(state.to_le_bytes().get(..3).unwrap_or_default());
    }
    let picture = png(&picture, CompressionType::Uncompressed)?;
    ensure!(picture.len() <= bytes, "{} bytes of noise instead of {bytes}", picture.len());
    Ok(picture)
}

/// A PNG of one pixel whose header claims `width` x `height`, with a right checksum: a bomb for who believes it.
///
/// # Errors
/// None is known.
pub fn lying_png(width: u32, height: u32) -> Result<Vec<u8>> {
    let mut bytes = one_pixel_png()?;
    // 8 bytes of signature, 4 of length, then the header chunk: type, width, height, 5 bytes more, checksum.
    let header = bytes.get_mut(12..33).context("a PNG without a header")?;
    let (covered, checksum) = header.split_at_mut(17);
    let (sizes, _) = covered.split_at_mut(12);
    sizes.copy_from_slice(&[*b"IHDR", width.to_be_bytes(), height.to_be_bytes()].concat());
    checksum.copy_from_slice(&crc32(covered).to_be_bytes());
    Ok(bytes)
}

/// A JPEG with an EXIF segment put before all others: an orientation (1 to 8) and [`DESCRIPTION`].
///
/// # Errors
/// `jpeg` is none.
pub fn with_exif(jpeg: &[u8], orientation: u8) -> Result<Vec<u8>> {
    let rest = jpeg.strip_prefix(&[0xff, 0xd8]).context("no JPEG")?;
    let text = [DESCRIPTION.as_bytes(), b"\0"].concat();
    // TIFF, big-endian: header, then a directory of two entries at 8, then the text at 8 + 2 + 2 * 12 + 4 = 38.
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x02".to_vec();
    exif.extend(b"\x01\x0e\0\x02");
    exif.extend(u32::try_from(text.len())?.to_be_bytes());
    exif.extend(38_u32.to_be_bytes());
    exif.extend(b"\x01\x12\0\x03\0\0\0\x01");
    exif.extend([0, orientation, 0, 0]);
    exif.extend(0_u32.to_be_bytes());
    exif.extend(text);
    let length = u16::try_from(exif.len() + 2)?.to_be_bytes();
    Ok([&[0xff, 0xd8, 0xff, 0xe1], &length[..], &exif, rest].concat())
}

/// A PNG of one colour with 16 bits a sample and opacity: few bytes that become eight for each pixel.
///
/// # Errors
/// The encoder refuses the dimensions.
pub fn wide_png(width: u32, height: u32) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    let samples = usize::try_from(u64::from(width) * u64::from(height) * 8)?;
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Up);
    encoder.write_image(&vec![0x80; samples], width, height, ExtendedColorType::Rgba16)?;
    Ok(bytes.into_inner())
}

/// A JPEG of 160 x 100 pixels, all grey.
///
/// # Errors
/// None is known.
pub fn small_jpeg() -> Result<Vec<u8>> {
    let frame = b"\xff\xc0\0\x0b\x08\0\x64\0\xa0\x01\x01\x11\0";
    // One table of each kind: quantization by one; a code of one bit for a difference of nothing, and for the end of a block.
    let quantization = [&b"\xff\xdb\0\x43\0"[..], &[1; 64]].concat();
    let code = |class: u8| [&b"\xff\xc4\0\x14"[..], &[class, 1], &[0; 15], &[0]].concat();
    let scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0";
    // 20 x 13 blocks of two bits, all zero.
    let data = vec![0; 20 * 13 * 2 / 8];
    let parts = [&b"\xff\xd8"[..], &quantization, frame, &code(0x00), &code(0x10), scan, &data, b"\xff\xd9"];
    Ok(parts.concat())
}

/// A JPEG with so many segments of metadata before its dimensions, 64 KiB each.
///
/// # Errors
/// `jpeg` is none.
pub fn after_metadata(jpeg: &[u8], segments: usize) -> Result<Vec<u8>> {
    let rest = jpeg.strip_prefix(&[0xff, 0xd8]).context("no JPEG")?;
    let segment = [&[0xff, 0xe5, 0xff, 0xff][..], &[0xff; 65_533]].concat();
    Ok([&[0xff, 0xd8][..], &segment.repeat(segments), rest].concat())
}

fn gradient(width: u32, height: u32) -> RgbImage {
    let shade = |at: u32, of: u32| u8::try_from(u64::from(at) * 255 / u64::from(of)).unwrap_or(u8::MAX);
    RgbImage::from_fn(width, height, |x, y| image::Rgb([shade(x, width), shade(y, height), 64]))
}

fn png(picture: &RgbImage, compression: CompressionType) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    let (width, height) = picture.dimensions();
    let encoder = PngEncoder::new_with_quality(&mut bytes, compression, FilterType::NoFilter);
    encoder.write_image(picture.as_raw(), width, height, ExtendedColorType::Rgb8)?;
    Ok(bytes.into_inner())
}

/// PNG's checksum (PNG specification, annex D), bit by bit: only headers are checked here.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
