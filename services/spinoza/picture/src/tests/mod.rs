//! Tests of the pipeline from file to files; the inputs are made in `samples`.

mod agreement;
mod colors;
mod corpus;
mod damage;
mod formats;
mod hostile;
mod orientation;
mod output;
mod samples;

use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, RgbaImage};

use super::{Limits, Optimised, OutputFormat, Preset, Rejection, Size, Variant, optimise, read_header};

/// The photograph that the repository carries: 512 x 512, JPEG.
const ASTRONAUT: &[u8] = include_bytes!("../../../../../tests/pictures/astronaut.jpg");

/// The avatar's sizes.
fn preset() -> Preset {
    Preset::avatar()
}

/// The same in every format that is written.
fn in_both_formats(mut preset: Preset) -> Preset {
    let quality = preset.outputs[0].quality;
    preset.outputs.push(crate::Output { format: OutputFormat::Jpeg, quality });
    preset
}

/// One square of this side, as WebP.
fn square(side: u32) -> Preset {
    Preset { sizes: vec![Size { width: side, height: side }], ..preset() }
}

fn run(input: &[u8]) -> Result<Vec<Variant>, Rejection> {
    optimise(input, &preset(), &Limits::default()).map(|made| made.variants)
}

fn code(input: &[u8]) -> &'static str {
    run(input).map_or_else(|rejection| rejection.code(), |_| "ok")
}

fn view(variant: &Variant) -> RgbaImage {
    let decoder = WebPDecoder::new(std::io::Cursor::new(&variant.bytes)).unwrap();
    let picture = DynamicImage::from_decoder(decoder).unwrap().into_rgba8();
    assert_eq!(picture.dimensions(), (variant.width, variant.height));
    picture
}

/// The colours in the middles of the four quarters: top left, top right, bottom left, bottom right.
fn quarters(variant: &Variant) -> [[u8; 4]; 4] {
    let picture = view(variant);
    let (near, far) = (variant.width / 4, variant.width * 3 / 4);
    [(near, near), (far, near), (near, far), (far, far)].map(|(x, y)| picture.get_pixel(x, y).0)
}

#[track_caller]
fn assert_close(found: [u8; 4], expected: [u8; 4]) {
    let is_close = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 12);
    assert!(is_close, "{found:?} is not {expected:?}");
}

/// Asserts that all variants, squares of different sizes, show these colours in their quarters.
#[track_caller]
fn assert_quarters(input: &[u8], expected: [[u8; 4]; 4]) {
    let variants = run(input).unwrap();
    assert!(!variants.is_empty());
    for variant in &variants {
        for (found, expected) in quarters(variant).into_iter().zip(expected) {
            assert_close(found, expected);
        }
    }
}
