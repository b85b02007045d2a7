//! Headers by hand, cut in every way. That the decoders say the same is tested where they are, in `orrery-picture`.

use super::*;

fn jpeg(segments: &[&[u8]]) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8];
    segments.iter().for_each(|segment| file.extend_from_slice(segment));
    file
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [&[0xff, marker][..], &length, body].concat()
}

/// 640 x 480, three components, colours at half the resolution.
fn frame(marker: u8) -> Vec<u8> {
    segment(marker, &[8, 1, 0xe0, 2, 0x80, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
}

fn scan(components: u8) -> Vec<u8> {
    segment(0xda, &[components, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0])
}

fn png(width: u32, height: u32, depth: u8, color: u8, interlace: u8) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    file.extend(width.to_be_bytes());
    file.extend(height.to_be_bytes());
    file.extend([depth, color, 0, 0, interlace, 0, 0, 0, 0]);
    file
}

fn gif(screen: [u8; 4], blocks: &[u8]) -> Vec<u8> {
    [b"GIF89a", &screen[..], &[0x80, 0, 0], &[9; 6], blocks].concat()
}

const GIF_FRAME: &[u8] = b"\x2c\x01\0\x02\0\x40\0\x20\0\0";

fn webp(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [b"RIFF\xff\0\0\0WEBP", &name[..], &[10, 0, 0, 0], data].concat()
}

fn size(file: &[u8]) -> Option<(u32, u32)> {
    read(file).ok().map(|header| (header.width, header.height))
}

fn good_files() -> Vec<Vec<u8>> {
    let noise = segment(0xe1, &[0xff; 60_000]);
    vec![
        jpeg(&[&frame(0xc0), &scan(3)]),
        jpeg(&[&segment(0xe0, b"JFIF\0"), &noise, &noise, &frame(0xc2), &scan(3)]),
        // Fill bytes, stray bytes and lengths that are too short.
        jpeg(&[
            &[0xff; 9],
            &[0xd8 - 8, 1, 2, 3, 0xff, 0],
            &[0xff, 0xe5, 0, 0],
            &frame(0xc1),
            b"junk",
            &scan(1),
        ]),
        png(640, 480, 16, 6, 1),
        webp(b"VP8X", &[0x12, 0, 0, 0, 0x7f, 2, 0, 0xdf, 1, 0]),
        webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a\x80\x42\xe0\x41"),
        webp(b"VP8L", &[0x2f, 0x7f, 0xc2, 0x77, 0x10]),
        gif([0x80, 2, 0xe0, 1], &[b"\x21\xf9\x04\0\0\0\0\0\x21\xfe\x02ab\x01c\0", GIF_FRAME].concat()),
    ]
}

#[test]
fn dimensions_are_read_however_the_bytes_are_cut() {
    for file in good_files() {
        let whole = read(&file).unwrap();
        assert_eq!((whole.width, whole.height), (640, 480), "{whole:?}");
        for chunk in [1, 2, 3, 7, 12, 13, 100, 65_536] {
            let mut scanner = Scanner::new();
            for part in file.chunks(chunk) {
                scanner.push(part).unwrap();
            }
            assert_eq!(scanner.finish().unwrap(), whole, "in chunks of {chunk}");
        }
    }
}

#[test]
fn a_header_that_breaks_off_waits_and_then_is_corrupt() {
    for file in good_files() {
        let complete = (0..=file.len()).find(|length| read(&file[..*length]).is_ok()).unwrap();
        for length in 12..complete {
            let mut scanner = Scanner::new();
            assert_eq!(scanner.push(&file[..length]), Ok(None), "{length}");
            assert_eq!(scanner.finish().unwrap_err().code(), "image_corrupt", "{length}");
        }
    }
}

#[test]
fn metadata_of_any_length_is_skipped_in_one_pass_with_little_held() {
    let metadata = segment(0xe1, &[0xff; 65_533]).repeat(150);
    let small = segment(0xfe, &[]).repeat(1_000_000);
    for before in [metadata, small, vec![0; 10_000_000]] {
        let start = std::time::Instant::now();
        let file = jpeg(&[&[0xff, 0xd8 - 8], &before, &frame(0xc0), &scan(3)]);
        let mut scanner = Scanner::new();
        for packet in file.chunks(100) {
            scanner.push(packet).unwrap();
        }
        assert_eq!(scanner.finish().map(|header| header.width), Ok(640));
        // A debug build on a busy machine takes seconds; from the start again for each chunk it would be hours.
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    }
}

#[test]
fn layouts_tell_what_decoding_takes() {
    let layout = |file: &[u8]| read(file).unwrap().layout;
    let many = |file: &[u8]| matches!(layout(file), Layout::Jpeg { has_many_scans: true, .. });
    assert!(!many(&jpeg(&[&frame(0xc0), &scan(3)])));
    assert!(many(&jpeg(&[&frame(0xc0), &scan(1)])));
    assert!(many(&jpeg(&[&frame(0xc2), &scan(3)])));
    assert_eq!(layout(&png(640, 480, 16, 6, 1)), Layout::Png { channels: 4, depth: 16, is_interlaced: true });
    let extended = webp(b"VP8X", &[0x12, 0, 0, 0, 0x7f, 2, 0, 0xdf, 1, 0]);
    assert_eq!(layout(&extended), Layout::WebP { has_alpha: true, is_animated: true });
}

#[test]
fn the_first_frame_of_a_gif_counts_where_the_screen_is_none_or_smaller() {
    assert_eq!(size(&gif([0, 0, 0, 0], GIF_FRAME)), Some((64, 32)));
    assert_eq!(size(&gif([16, 0, 16, 0], GIF_FRAME)), Some((64, 32)));
    assert_eq!(size(&gif([100, 0, 100, 0], GIF_FRAME)), Some((100, 100)));
    assert_eq!(size(&gif([100, 0, 100, 0], b"\x3b")), None);
    assert_eq!(size(&gif([0, 0, 0, 0], b"\x2c\0\0\0\0\0\0\0\0\0")), None);
}

#[test]
fn what_no_decoder_takes_is_refused() {
    for (code, file) in [
        ("image_corrupt", jpeg(&[&scan(3), &[0; 20]])),
        ("image_corrupt", jpeg(&[&[0xff, 0xd9], &[0; 20]])),
        ("image_corrupt", jpeg(&[&[0xff, 0xd8], &frame(0xc0), &scan(3)])),
        ("image_corrupt", jpeg(&[&frame(0xc0), &frame(0xc0), &scan(3)])),
        ("image_corrupt", jpeg(&[&segment(0xf0, &[0; 20]), &frame(0xc0), &scan(3)])),
        ("image_corrupt", jpeg(&[&segment(0xc0, &[8, 0, 0, 2, 0x80, 1, 1, 0x22, 0]), &scan(1)])),
        ("image_corrupt", jpeg(&[&segment(0xc0, &[8, 1, 0, 2, 0x80, 1, 1, 0x52, 0]), &scan(1)])),
        ("image_corrupt", jpeg(&[&segment(0xc0, &[8, 1, 0, 2, 0x80, 2, 1, 0x22, 0]), &scan(1)])),
        ("unsupported_image", jpeg(&[&frame(0xc5), &scan(3)])),
        ("image_corrupt", png(0, 480, 8, 2, 0)),
        ("image_corrupt", png(640, 480, 8, 5, 0)),
        ("image_corrupt", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIDATxxxxxxxxxxxxxxxxxxx".to_vec()),
        ("image_corrupt", webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a\0\0\0\0")),
        ("image_corrupt", webp(b"VP8 ", &[7; 10])),
        ("image_corrupt", webp(b"VP8L", &[7; 10])),
        ("image_corrupt", webp(b"ICCP", &[7; 10])),
        ("image_corrupt", gif([9, 0, 9, 0], b"\0")),
        ("not_an_image", b"#!/bin/sh\nexit 0\n".to_vec()),
        ("unsupported_image", b"\0\0\0\x20ftypheic\0\0\0\0".to_vec()),
    ] {
        assert_eq!(read(&file).unwrap_err().code(), code, "{file:?}");
    }
    assert_eq!(read(b"").unwrap_err(), Fault::NotAnImage);
    assert_eq!(read(b"\xff\xd8\xff").unwrap_err().code(), "image_corrupt");
}

#[test]
fn limits_are_inclusive() {
    let limits = Limits { max_pixels: 60 * 40, max_side: 60, min_side: 40 };
    let check = |width, height| limits.check(&read(&png(width, height, 8, 2, 0)).unwrap());
    assert_eq!(check(60, 40), Ok(()));
    for (width, height, code) in
        [(61, 39, "image_too_large"), (60, 41, "image_too_large"), (60, 39, "image_too_small")]
    {
        assert_eq!(check(width, height).unwrap_err().code(), code);
    }
}
