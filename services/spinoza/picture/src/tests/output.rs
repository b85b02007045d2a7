//! What is written: no metadata, and the same bytes for the same input.

use super::samples::*;
use super::{ASTRONAUT, Limits, in_both_formats, optimise, preset, run};

/// How metadata would be known in a WebP file, or by its contents.
const TRACES: [&[u8]; 9] =
    [b"Exif", b"EXIF", b"ICCP", b"ICC_PROFILE", b"XMP ", b"xmpmeta", b"II*\0", b"MM\0*", b"secret"];

#[track_caller]
fn assert_bare(input: &[u8]) {
    assert!(input.windows(6).any(|found| found == b"secret"), "the sample itself carries the metadata");
    // JPEG variants too.
    for variant in optimise(input, &in_both_formats(preset()), &Limits::default()).unwrap().variants {
        for trace in TRACES {
            let found = variant.bytes.windows(trace.len()).any(|window| window == trace);
            assert!(!found, "{} in the {} variant", String::from_utf8_lossy(trace), variant.width);
        }
    }
}

#[test]
fn metadata_is_gone() {
    let exif = [exif(3, true), b"secret place".to_vec()].concat();
    let profile = [&b"ICC_PROFILE\0\x01\x01"[..], b"secret profile"].concat();
    let xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>secret</x:xmpmeta>";

    let mut file = jpeg(300, 200);
    for (marker, body) in [
        (0xfe, b"secret comment".to_vec()),
        (0xe2, profile.clone()),
        (0xe1, xmp.to_vec()),
        (0xed, b"Photoshop 3.0\0secret".to_vec()),
        (0xe1, [b"Exif\0\0", exif.as_slice()].concat()),
    ] {
        file = with_segment(&file, marker, &body);
    }
    assert_bare(&file);

    let mut file = png(&quadrants(300, 200, COLORS));
    let text = b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta>secret</x:xmpmeta>";
    for (kind, body) in [
        (b"eXIf", exif.clone()),
        (b"tEXt", b"Comment\0secret".to_vec()),
        (b"iTXt", text.to_vec()),
        (b"iCCP", [&b"name\0\0"[..], &zlib(b"secret profile")].concat()),
    ] {
        file = with_png_chunk(&file, kind, &body);
    }
    assert_bare(&file);

    let picture = quadrants(300, 200, [RED, GREEN, CLEAR, SAND]);
    let simple = lossless_webp(&picture);
    let chunks = [
        riff_chunk(b"ICCP", b"secret profile"),
        simple[12..].to_vec(),
        riff_chunk(b"EXIF", &exif),
        riff_chunk(b"XMP ", xmp),
    ];
    assert_bare(&extended_webp(0x20 | 0x10 | 0x08 | 0x04, (300, 200), &chunks.concat()));

    let mut file = gif(&[picture]);
    file.pop();
    file.extend(b"\x21\xfe\x0esecret comment\0\x3b");
    assert_bare(&file);
}

#[test]
fn same_input_gives_the_same_bytes() {
    let clear = quadrants(333, 222, [RED, CLEAR, BLUE, SAND]);
    for input in
        [ASTRONAUT, &jpeg(1234, 999), &png(&clear), &gif(std::slice::from_ref(&clear)), &webp(&clear)]
    {
        let first = run(input).unwrap();
        // On another thread too: nothing may hang on what a thread did before.
        let again = std::thread::scope(|scope| scope.spawn(|| run(input).unwrap()).join().unwrap());
        assert_eq!(first, again);
        assert_eq!(first, run(input).unwrap());
    }
}
