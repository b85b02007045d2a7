//! Whatever is uploaded: variants within their sizes, or a reason; never a fault of ours.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orrery_picture::{Limits, Preset, optimise};

fuzz_target!(|input: &[u8]| {
    let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
    match optimise(input, &Preset::avatar(), &limits) {
        Ok(made) => assert!(made.variants.iter().all(|v| v.width <= 512 && v.height <= 512 && !v.bytes.is_empty())),
        Err(rejection) => assert_ne!(rejection.code(), "image_processing_failed", "{rejection:?}"),
    }
});
