//! The header reader, which uploads meet first, and the decoders agree: what it refuses no decoder takes, and the dimensions that it
//! reads are those that they find.

use std::io::Cursor;

use super::hostile::{Random, samples};
use super::read_header;
use crate::jpeg::raw_dimensions;

/// What the decoder by itself says that the file measures; none where it refuses the header.
fn decoder_says(name: &str, file: &[u8]) -> Option<(u32, u32)> {
    if name.contains("jpeg") {
        raw_dimensions(file)
    } else if name == "png" {
        let reader = png::Decoder::new(Cursor::new(file)).read_info().ok()?;
        Some((reader.info().width, reader.info().height))
    } else if name == "gif" {
        let mut decoder = gif::DecodeOptions::new().read_info(file).ok()?;
        let (width, height) = (decoder.width(), decoder.height());
        let frame = decoder.next_frame_info().ok()??;
        let is_larger = frame.width > width || frame.height > height;
        Some(if is_larger {
            (frame.width.into(), frame.height.into())
        } else {
            (width.into(), height.into())
        })
        .filter(|_| frame.width > 0 && frame.height > 0)
    } else {
        let features = webp::BitstreamFeatures::new(file)?;
        Some((features.width(), features.height()))
    }
}

#[track_caller]
fn assert_agreement(name: &str, file: &[u8]) {
    match (read_header(file), decoder_says(name, file)) {
        (Ok(header), Some(size)) => assert_eq!((header.width, header.height), size, "{name}: {file:02x?}"),
        (Err(fault), Some(size)) => panic!("{name}: {fault} although it decodes to {size:?}: {file:02x?}"),
        (_, None) => {}
    }
}

#[test]
fn mutated_headers_are_read_alike() {
    let mut random = Random(11);
    for (name, file) in samples() {
        assert_agreement(name, &file);
        // The magic number stays: by it the decoder is chosen.
        let start = if name.contains("jpeg") { 3 } else { 12 };
        let end = file.len().min(700);
        for _ in 0..4000 {
            let mut mutated = file.clone();
            for _ in 0..=random.below(3) {
                let at = start + random.below(end - start - 4);
                match random.below(4) {
                    0 => mutated.insert(at, [0xff, 0, random.byte()][random.below(3)]),
                    1 => drop(mutated.remove(at)),
                    2 => mutated[at] ^= 1 << random.below(8),
                    _ => mutated[at] = random.byte(),
                }
            }
            assert_agreement(name, &mutated);
        }
    }
}
