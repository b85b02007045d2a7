//! Hostile files of every kind, a few hundred: none panics, none takes long, each is refused with a reason or shows what it is.

use std::io::Write;
use std::time::{Duration, Instant};

use super::hostile::{Random, samples};
use super::samples::*;
use super::*;

/// A debug build on a busy machine; what is wrong takes minutes.
const DEADLINE: Duration = Duration::from_secs(20);

/// What is to come of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Whatever it is, soon.
    Any,
    Refused,
    Taken,
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn png_of((width, height): (u32, u32), header: [u8; 3], chunks: &[u8], data: &[u8]) -> Vec<u8> {
    let [depth, color, interlace] = header;
    let ihdr = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, interlace]].concat();
    [
        b"\x89PNG\r\n\x1a\n",
        png_chunk(b"IHDR", &ihdr).as_slice(),
        chunks,
        &png_chunk(b"IDAT", data),
        &png_chunk(b"IEND", &[]),
    ]
    .concat()
}

fn corpus() -> Vec<(String, Vec<u8>, Expected)> {
    let mut corpus = Vec::new();
    let mut random = Random(5);
    for (name, file) in samples() {
        for step in 1..16 {
            corpus.push((
                format!("{name} cut {step}"),
                file[..file.len() * step / 17].to_vec(),
                Expected::Refused,
            ));
        }
        for round in 0..15 {
            let mut flipped = file.clone();
            for _ in 0..=round {
                let at = random.below(flipped.len());
                flipped[at] ^= 1 << random.below(8);
            }
            corpus.push((format!("{name} flipped {round}"), flipped, Expected::Any));
        }
        let magic_of_others =
            [&b"\xff\xd8\xff\xe0"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b"GIF89a"];
        for magic in magic_of_others.into_iter().filter(|magic| !file.starts_with(&magic[..3])) {
            let mut wrong = file.clone();
            wrong[..magic.len()].copy_from_slice(magic);
            corpus.push((format!("{name} with the head of another"), wrong, Expected::Refused));
        }
        corpus.push((format!("{name} doubled"), file.repeat(2), Expected::Any));
    }
    corpus.extend(bombs());
    corpus.extend(sizes());
    corpus.extend(polyglots());
    corpus.extend(animations());
    corpus
}

/// Little that becomes much.
fn bombs() -> Vec<(String, Vec<u8>, Expected)> {
    let (width, height) = (4000, 4000);
    let mut list = Vec::new();
    let rows = |bytes: usize| deflate(&vec![0; (bytes + 1) * 4000]);
    list.push(("png of one colour", png_of((width, height), [8, 2, 0], &[], &rows(12_000)), Expected::Taken));
    list.push(("png of 16 bits", png_of((width, height), [16, 6, 0], &[], &rows(32_000)), Expected::Taken));
    // Far more rows than the header says, and far fewer.
    list.push(("png with too many rows", png_of((64, 64), [8, 2, 0], &[], &rows(12_000)), Expected::Any));
    list.push((
        "png with too few rows",
        png_of((width, height), [8, 2, 0], &[], &deflate(&[0; 999])),
        Expected::Refused,
    ));
    let profile = [&b"name\0\0"[..], &deflate(&vec![0; 200_000_000])].concat();
    let small = png(&quadrants(64, 64, COLORS));
    list.push(("png with a swelling profile", with_png_chunk(&small, b"iCCP", &profile), Expected::Any));
    let text = [&b"Comment\0\0"[..], &deflate(&vec![b' '; 100_000_000])].concat();
    list.push(("png with a swelling text", with_png_chunk(&small, b"zTXt", &text), Expected::Any));
    let plain = quadrants(width, height, [SAND; 4]);
    list.push(("webp of one colour", lossless_webp(&plain), Expected::Taken));
    list.push(("jpeg of one colour", jpeg(width, height), Expected::Taken));
    list.push(("progressive jpeg", progressive_jpeg(width, height), Expected::Taken));
    list.push(("gif of one colour", gif(&[quadrants(2000, 2000, [SAND; 4])]), Expected::Taken));
    list.into_iter().map(|(name, file, expected)| (name.to_owned(), file, expected)).collect()
}

/// No size, giant sizes, sizes that contradict each other.
fn sizes() -> Vec<(String, Vec<u8>, Expected)> {
    let mut list = Vec::new();
    let simple = lossless_webp(&quadrants(48, 40, COLORS));
    let sides =
        [(0, 0), (0, 48), (48, 0), (0xffff, 0xffff), (0xffff, 16), (16_384, 16_384), (1, 1), (49, 41)];
    for (width, height) in sides {
        let name = |format: &str| format!("{format} of {width} x {height}");
        let expected = if (width, height) == (49, 41) { Expected::Any } else { Expected::Refused };
        for jpeg in [jpeg(48, 40), progressive_jpeg(48, 40)] {
            let mut file = jpeg;
            let frame = file.windows(2).position(|found| matches!(found, [0xff, 0xc0 | 0xc2])).unwrap();
            let (w, h) = (u16::try_from(width).unwrap(), u16::try_from(height).unwrap());
            file[frame + 5..frame + 9].copy_from_slice(&[h.to_be_bytes(), w.to_be_bytes()].concat());
            list.push((name("jpeg"), file, Expected::Any));
        }
        for depth in [1, 8, 16] {
            list.push((
                name("png"),
                png_of((width, height), [depth, 0, 1], &[], &deflate(&[0; 300])),
                expected,
            ));
        }
        list.push((
            name("png"),
            png_of((width << 15, height << 15), [8, 6, 0], &[], &deflate(&[0; 30])),
            Expected::Refused,
        ));
        if width > 0 && height > 0 {
            list.push((name("webp"), extended_webp(0, (width, height), &simple[12..]), Expected::Refused));
            list.push((name("webp"), extended_webp(0x12, (width, height), &[]), Expected::Refused));
        }
        let mut file = gif(&[quadrants(48, 40, COLORS)]);
        file[6..8].copy_from_slice(&u16::try_from(width).unwrap().to_le_bytes());
        file[8..10].copy_from_slice(&u16::try_from(height).unwrap().to_le_bytes());
        list.push((name("gif screen"), file.clone(), Expected::Any));
        let frame = file.windows(5).position(|found| found == [0x2c, 0, 0, 0, 0]).unwrap();
        file[frame + 5..frame + 7].copy_from_slice(&u16::try_from(width).unwrap().to_le_bytes());
        file[frame + 7..frame + 9].copy_from_slice(&u16::try_from(height).unwrap().to_le_bytes());
        list.push((name("gif frame"), file, Expected::Any));
    }
    list
}

/// Pictures that are something else as well: what is seen is the picture, and nothing else comes along.
fn polyglots() -> Vec<(String, Vec<u8>, Expected)> {
    let (jpeg, png) = (jpeg(48, 40), png(&quadrants(48, 40, COLORS)));
    let gif = gif(&[quadrants(48, 40, COLORS)]);
    let zip = b"PK\x03\x04\x14\0\0\0\0\0secret.txtPK\x05\x06";
    let html = b"<html><script>alert(1)</script></html>";
    vec![
        ("jpeg and zip".to_owned(), [jpeg.as_slice(), zip].concat(), Expected::Taken),
        ("jpeg and html".to_owned(), with_segment(&jpeg, 0xfe, html), Expected::Taken),
        (
            "jpeg and php".to_owned(),
            with_segment(&jpeg, 0xe5, b"<?php system($_GET[0]); ?>"),
            Expected::Taken,
        ),
        (
            "png and html".to_owned(),
            with_png_chunk(&png, b"tEXt", &[b"Title\0", &html[..]].concat()),
            Expected::Taken,
        ),
        ("png and zip".to_owned(), [png.as_slice(), zip].concat(), Expected::Taken),
        ("gif and javascript".to_owned(), [gif.as_slice(), b"*/=1;alert(1)//"].concat(), Expected::Taken),
        (
            "gif header and javascript".to_owned(),
            b"GIF89a=1;alert(document.domain)//".to_vec(),
            Expected::Refused,
        ),
        (
            "svg".to_owned(),
            b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
            Expected::Refused,
        ),
        (
            "postscript".to_owned(),
            b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (w) file".to_vec(),
            Expected::Refused,
        ),
        (
            "mvg".to_owned(),
            b"push graphic-context\nfill 'url(https://x/\"|id\")'".to_vec(),
            Expected::Refused,
        ),
        ("pdf before png".to_owned(), [b"%PDF-1.4\n", png.as_slice()].concat(), Expected::Refused),
        ("jpeg within png".to_owned(), with_png_chunk(&png, b"eXIf", &jpeg), Expected::Taken),
        (
            "png within jpeg".to_owned(),
            with_segment(&jpeg, 0xe1, &[b"Exif\0\0", png.as_slice()].concat()),
            Expected::Taken,
        ),
    ]
}

/// Animations without an end, and those that lie about their frames.
fn animations() -> Vec<(String, Vec<u8>, Expected)> {
    let picture = quadrants(48, 40, COLORS);
    let gif = gif(std::slice::from_ref(&picture));
    let frame = gif.windows(5).position(|found| found == [0x2c, 0, 0, 0, 0]).unwrap();
    let (before, frames) = (&gif[..frame], &gif[frame..gif.len() - 1]);
    let comment = [&b"\x21\xfe"[..], &[&[255][..], &[b'x'; 255]].concat().repeat(20_000), &[0]].concat();
    let still = lossless_webp(&picture);
    let anmf = |size: [u8; 3], data: &[u8]| {
        riff_chunk(b"ANMF", &[&[0; 6][..], &size, &size, &[9, 0, 0, 0], data].concat())
    };
    let anim = riff_chunk(b"ANIM", &[0; 6]);
    let png = png(&picture);
    let actl = |frames: u32| png_chunk(b"acTL", &[frames.to_be_bytes(), [0; 4]].concat());
    vec![
        ("gif without an end".to_owned(), [before, frames].concat(), Expected::Taken),
        (
            "gif of 5,000 frames".to_owned(),
            [before, &frames.repeat(5_000), b"\x3b"].concat(),
            Expected::Taken,
        ),
        (
            "gif with a long comment".to_owned(),
            [&gif[..13 + 3 * palette(&gif)], &comment, &gif[13 + 3 * palette(&gif)..]].concat(),
            Expected::Taken,
        ),
        (
            "gif with a comment without an end".to_owned(),
            [&gif[..13], &comment[..comment.len() - 1]].concat(),
            Expected::Refused,
        ),
        (
            "webp of 5,000 frames".to_owned(),
            extended_webp(
                2,
                (48, 40),
                &[anim.clone(), anmf([15, 0, 0], &still[12..]).repeat(5_000)].concat(),
            ),
            Expected::Any,
        ),
        (
            "webp whose frame is beyond its canvas".to_owned(),
            extended_webp(2, (48, 40), &[anim.clone(), anmf([255, 255, 255], &still[12..])].concat()),
            Expected::Refused,
        ),
        (
            "webp whose frame is empty".to_owned(),
            extended_webp(2, (48, 40), &[anim.clone(), anmf([47, 0, 0], &[])].concat()),
            Expected::Refused,
        ),
        ("webp animation without a frame".to_owned(), extended_webp(2, (48, 40), &anim), Expected::Refused),
        ("png of no frames".to_owned(), with_png_chunk(&png, b"acTL", &[0; 8]), Expected::Any),
        ("png of all frames".to_owned(), [&png[..33], &actl(u32::MAX), &png[33..]].concat(), Expected::Any),
        (
            "png of a giant frame".to_owned(),
            [&png[..33], &actl(1), &png_chunk(b"fcTL", &[0xff; 26]), &png[33..]].concat(),
            Expected::Any,
        ),
    ]
}

/// Colours in the global palette of a GIF.
fn palette(gif: &[u8]) -> usize {
    if gif[10] & 0x80 == 0 { 0 } else { 2 << (gif[10] & 7) }
}

#[test]
fn hundreds_of_hostile_files_are_answered_in_time() {
    let corpus = corpus();
    assert!(corpus.len() >= 200, "{}", corpus.len());
    for (name, file, expected) in corpus {
        let start = Instant::now();
        let outcome = optimise(&file, &square(32), &Limits::default());
        assert!(start.elapsed() < DEADLINE, "{name}: {:?}", start.elapsed());
        match (expected, &outcome) {
            (Expected::Any, _) | (Expected::Taken, Ok(_)) => {}
            (Expected::Refused, Err(rejection)) => {
                assert_ne!(rejection.code(), "image_processing_failed", "{name}: {rejection:?}");
            }
            _ => panic!("{name}: {outcome:?} is not {expected:?}"),
        }
    }
}
