//! Files made for tests: quarters of four colours in every format, and the parts of containers by hand.

use image::codecs::gif::GifEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgba, RgbaImage};

pub(super) const RED: [u8; 4] = [200, 30, 30, 255];
pub(super) const GREEN: [u8; 4] = [30, 160, 30, 255];
pub(super) const BLUE: [u8; 4] = [30, 30, 200, 255];
pub(super) const SAND: [u8; 4] = [220, 200, 150, 255];
pub(super) const CLEAR: [u8; 4] = [0, 0, 0, 0];

/// Top left, top right, bottom left, bottom right.
pub(super) const COLORS: [[u8; 4]; 4] = [RED, GREEN, BLUE, SAND];

pub(super) fn quadrants(width: u32, height: u32, colors: [[u8; 4]; 4]) -> RgbaImage {
    RgbaImage::from_fn(width, height, |x, y| {
        Rgba(colors[usize::from(y >= height / 2) * 2 + usize::from(x >= width / 2)])
    })
}

fn rgb(picture: &RgbaImage) -> Vec<u8> {
    picture.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}

pub(super) fn jpeg_of(
    pixels: &[u8],
    (width, height): (u32, u32),
    format: turbojpeg::PixelFormat,
    change: impl FnOnce(&mut turbojpeg::Compressor),
) -> Vec<u8> {
    let (width, height) = (width.try_into().unwrap(), height.try_into().unwrap());
    let mut compressor = turbojpeg::Compressor::new().unwrap();
    compressor.set_quality(95).unwrap();
    change(&mut compressor);
    let image = turbojpeg::Image { pixels, width, pitch: width * format.size(), height, format };
    compressor.compress_to_vec(image).unwrap()
}

pub(super) fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let pixels = rgb(&quadrants(width, height, COLORS));
    jpeg_of(&pixels, (width, height), turbojpeg::PixelFormat::RGB, |_| {})
}

pub(super) fn progressive_jpeg(width: u32, height: u32) -> Vec<u8> {
    let pixels = rgb(&quadrants(width, height, COLORS));
    jpeg_of(&pixels, (width, height), turbojpeg::PixelFormat::RGB, |compressor| {
        compressor.set_progressive(true).unwrap();
    })
}

pub(super) fn png(picture: &RgbaImage) -> Vec<u8> {
    let mut file = Vec::new();
    PngEncoder::new(&mut file)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgba8)
        .unwrap();
    file
}

pub(super) fn webp(picture: &RgbaImage) -> Vec<u8> {
    webp::Encoder::from_rgba(picture.as_raw(), picture.width(), picture.height()).encode(90.0).to_vec()
}

pub(super) fn lossless_webp(picture: &RgbaImage) -> Vec<u8> {
    webp::Encoder::from_rgba(picture.as_raw(), picture.width(), picture.height()).encode_lossless().to_vec()
}

/// An animation that starts with the picture and goes on with a blue one.
pub(super) fn animated_webp(picture: &RgbaImage) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let second = quadrants(width, height, [BLUE; 4]);
    let config = webp::WebPConfig::new().unwrap();
    let mut encoder = webp::AnimEncoder::new(width, height, &config);
    encoder.add_frame(webp::AnimFrame::from_rgba(picture.as_raw(), width, height, 0));
    encoder.add_frame(webp::AnimFrame::from_rgba(second.as_raw(), width, height, 100));
    encoder.encode().to_vec()
}

pub(super) fn gif(pictures: &[RgbaImage]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = GifEncoder::new(&mut file);
    for picture in pictures {
        encoder.encode_frame(image::Frame::new(picture.clone())).unwrap();
    }
    drop(encoder);
    file
}

/// An Exif block with one tag, the orientation, in either byte order.
pub(super) fn exif(orientation: u16, is_big_endian: bool) -> Vec<u8> {
    exif_of_type(orientation, 3, is_big_endian)
}

/// The same, as a value of any numeric type of TIFF.
pub(super) fn exif_of_type(orientation: u16, kind: u16, is_big_endian: bool) -> Vec<u8> {
    let mut block = if is_big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
    let mut put = |value: u64, size: usize| {
        if is_big_endian {
            block.extend(&value.to_be_bytes()[8 - size..]);
        } else {
            block.extend(&value.to_le_bytes()[..size]);
        }
    };
    // The directory at 8 has one entry: tag, type, count, value; no next directory. It ends at 26.
    let value = u64::from(orientation);
    for (value, size) in [(8, 4), (1, 2), (0x0112, 2), (u64::from(kind), 2), (1, 4)] {
        put(value, size);
    }
    match kind {
        1 | 6 => [(value, 1), (0, 3), (0, 4)].map(|(value, size)| put(value, size)).len(),
        3 | 8 => [(value, 2), (0, 2), (0, 4)].map(|(value, size)| put(value, size)).len(),
        11 => [(u64::from(f32::from(orientation).to_bits()), 4), (0, 4)]
            .map(|(value, size)| put(value, size))
            .len(),
        12 => [(26, 4), (0, 4), (f64::from(orientation).to_bits(), 8)]
            .map(|(value, size)| put(value, size))
            .len(),
        5 | 10 => [(26, 4), (0, 4), (value * 2, 4), (2, 4)].map(|(value, size)| put(value, size)).len(),
        _ => [(value, 4), (0, 4)].map(|(value, size)| put(value, size)).len(),
    };
    block
}

/// Puts a segment right after a JPEG's start.
pub(super) fn with_segment(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, body, &jpeg[2..]].concat()
}

pub(super) fn png_chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let checked = [kind, body].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [length.as_slice(), &checked, &crc32(&checked).to_be_bytes()].concat()
}

/// Puts a chunk right after a PNG's header.
pub(super) fn with_png_chunk(png: &[u8], kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&png[..33], &png_chunk(kind, body), &png[33..]].concat()
}

/// A PNG from scanlines that start with their filter, as bit depth, colour type and interlacing of the header say.
pub(super) fn raw_png(
    (width, height): (u32, u32),
    header: [u8; 3],
    before_data: &[u8],
    scanlines: &[u8],
) -> Vec<u8> {
    let [depth, color, interlace] = header;
    let ihdr = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, interlace]].concat();
    [
        b"\x89PNG\r\n\x1a\n",
        png_chunk(b"IHDR", &ihdr).as_slice(),
        before_data,
        &png_chunk(b"IDAT", &zlib(scanlines)),
        &png_chunk(b"IEND", &[]),
    ]
    .concat()
}

/// A zlib stream that stores its data as it is (RFC 1950, 1951).
pub(super) fn zlib(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap();
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (low, high) = data.iter().fold((1u32, 0u32), |(low, high), &byte| {
        let low = (low + u32::from(byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    stream.extend((high << 16 | low).to_be_bytes());
    stream
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

pub(super) fn riff_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(data.len()).unwrap().to_le_bytes();
    [name, size.as_slice(), data, &[0][..data.len() % 2]].concat()
}

/// A WebP of these chunks, after an extended header with the flags and the canvas.
pub(super) fn extended_webp(flags: u8, (width, height): (u32, u32), chunks: &[u8]) -> Vec<u8> {
    let canvas = [&(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat();
    let header = riff_chunk(b"VP8X", &[&[flags, 0, 0, 0][..], &canvas].concat());
    riff_chunk(b"RIFF", &[b"WEBP", header.as_slice(), chunks].concat())
}

/// The same still picture with a chunk of metadata after it.
pub(super) fn with_webp_chunk(
    webp: &[u8],
    size: (u32, u32),
    flag: u8,
    name: &[u8; 4],
    data: &[u8],
) -> Vec<u8> {
    assert!(webp[12..].starts_with(b"VP8") && !webp[12..].starts_with(b"VP8X"), "only for simple files");
    extended_webp(flag, size, &[&webp[12..], &riff_chunk(name, data)].concat())
}
