//! Files that lie, break off or make no sense are refused with a reason: quickly, and without a panic.

use std::time::{Duration, Instant};

use super::samples::*;
use super::*;

/// Small files of every kind.
pub(super) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let (opaque, clear) = (quadrants(48, 40, COLORS), quadrants(48, 40, [RED, CLEAR, BLUE, SAND]));
    vec![
        ("jpeg", jpeg(48, 40)),
        ("progressive jpeg", progressive_jpeg(48, 40)),
        ("png", png(&clear)),
        ("webp", webp(&opaque)),
        ("webp with opacity", webp(&clear)),
        ("lossless webp", lossless_webp(&clear)),
        ("animated webp", animated_webp(&clear)),
        ("gif", gif(&[clear])),
    ]
}

#[test]
fn empty_and_tiny_inputs_are_refused() {
    assert_eq!(code(b""), "not_an_image");
    assert_eq!(code(&[0xff]), "not_an_image");
    for start in [&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a"] {
        assert_eq!(code(start), "image_corrupt", "{start:?}");
    }
}

#[test]
fn random_bytes_are_refused() {
    let mut random = Random(7);
    for length in 0..300 {
        let noise: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        assert_ne!(code(&noise), "ok");
        for start in [&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBPVP8X", b"GIF89a"] {
            assert_ne!(code(&[start, &noise].concat()), "ok", "{start:?} and {length} bytes");
        }
    }
}

#[test]
fn truncated_files_are_corrupt() {
    for (name, file) in samples() {
        for length in 12..file.len() {
            let found = code(&file[..length]);
            // The last three bytes of a GIF only say that nothing follows: the frame is whole before them.
            let may_be_whole = name == "gif" && length >= file.len() - 3;
            assert!(
                found == "image_corrupt" || (may_be_whole && found == "ok"),
                "{name}: {found} of the first {length} of {} bytes",
                file.len()
            );
        }
        assert_eq!(code(&file), "ok", "{name}");
    }
    for tenth in 1..10 {
        assert_eq!(code(&ASTRONAUT[..ASTRONAUT.len() * tenth / 10]), "image_corrupt");
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut random = Random(42);
    for (_, file) in samples() {
        for _ in 0..150 {
            let mut damaged = file.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(damaged.len());
                damaged[at] = random.byte();
            }
            // Whatever comes of it.
            let _outcome = optimise(&damaged, &square(32), &Limits::default());
        }
    }
}

#[test]
fn data_after_the_end_does_no_harm() {
    for (name, file) in samples() {
        if name != "animated webp" {
            assert_eq!(code(&[file.as_slice(), b"trailing data of a camera"].concat()), "ok", "{name}");
        }
    }
}

#[test]
fn stray_bytes_before_the_end_of_a_jpeg_do_no_harm_unless_it_breaks_off() {
    let file = jpeg(48, 40);
    let end = file.len() - 2;
    let padded = [&file[..end], &[0; 7], &file[end..]].concat();
    assert_eq!(code(&padded), "ok");
    assert_eq!(code(&padded[..padded.len() - 2]), "image_corrupt");
}

#[test]
fn too_small_pictures_are_refused() {
    for (width, height) in [(1, 1), (15, 600), (600, 15)] {
        let picture = quadrants(width, height, COLORS);
        for file in [jpeg(width, height), png(&picture), webp(&picture), gif(std::slice::from_ref(&picture))]
        {
            assert_eq!(code(&file), "image_too_small");
        }
    }
    let text = run(&jpeg(1, 1)).unwrap_err().to_string();
    assert_eq!(
        text,
        "The picture measures 1 x 1 pixels, which is too small: each side must have at least 16 pixels. \
         Choose a larger picture."
    );
}

#[test]
fn size_that_a_header_claims_is_refused_before_any_memory_is_taken() {
    let mut lying_jpeg = jpeg(48, 40);
    let frame = lying_jpeg.windows(2).position(|found| found == [0xff, 0xc0]).unwrap();
    lying_jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    let mut lying_gif = gif(&[quadrants(48, 40, COLORS)]);
    lying_gif[6..10].copy_from_slice(&[0x60, 0xea, 0x60, 0xea]);
    let lying_png = raw_png((60_000, 60_000), [8, 2, 0], &[], &[0; 100]);
    let simple = lossless_webp(&quadrants(48, 40, COLORS));
    let lying_webp = extended_webp(0, (60_000, 60_000), &simple[12..]);
    for file in [lying_jpeg, lying_gif, lying_png.clone(), lying_webp] {
        let start = Instant::now();
        assert_eq!(code(&file), "image_too_large");
        assert!(start.elapsed() < Duration::from_millis(100));
    }
    assert_eq!(
        run(&lying_png).unwrap_err().to_string(),
        "The picture measures 60000 x 60000 pixels, which is too large: at most 16384 pixels a side and \
         50 megapixels in all are allowed. Make it smaller and upload it again."
    );
}

#[test]
fn frame_larger_than_the_file_says_is_refused() {
    let limits = Limits { max_pixels: 100_000, ..Limits::default() };
    // A canvas within the limits, a frame beyond them: by itself, and within an animation.
    let simple = webp(&quadrants(600, 600, COLORS));
    let still = extended_webp(0, (48, 40), &simple[12..]);
    let frame = riff_chunk(b"ANMF", &[&[0; 16][..], &simple[12..]].concat());
    let animated = extended_webp(2, (48, 40), &[riff_chunk(b"ANIM", &[0; 6]), frame].concat());
    let mut gif = gif(&[quadrants(600, 600, COLORS)]);
    gif[6..10].copy_from_slice(&[48, 0, 40, 0]);
    for file in [still, animated] {
        assert_eq!(optimise(&file, &square(32), &limits).unwrap_err().code(), "image_too_large");
    }
    assert_eq!(optimise(&gif, &square(32), &limits).unwrap_err().code(), "image_too_large");
}

#[test]
fn limits_are_inclusive() {
    let limits = Limits { max_pixels: 60 * 40, max_side: 60, min_side: 40 };
    assert!(optimise(&jpeg(60, 40), &square(32), &limits).is_ok());
    for (width, height, expected) in
        [(61, 39, "image_too_large"), (60, 41, "image_too_large"), (60, 39, "image_too_small")]
    {
        assert_eq!(optimise(&jpeg(width, height), &square(32), &limits).unwrap_err().code(), expected);
    }
}

/// Numbers that look random and are the same in every run (Knuth's linear congruential generator).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0.to_be_bytes()[0]
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (usize::from(self.byte()) << 16 | usize::from(self.byte()) << 8 | usize::from(self.byte())) % bound
    }
}
