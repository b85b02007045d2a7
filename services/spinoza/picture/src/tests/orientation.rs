//! A picture that says how it was held comes out upright, from every container that can say so.

use super::samples::*;
use super::{assert_quarters, code, run};

/// What of the stored quarters (top left, top right, bottom left, bottom right) is seen where,
/// by the table of Exif 2.32, 4.6.4 (tag 274).
const SEEN: [(u16, [usize; 4]); 8] = [
    (1, [0, 1, 2, 3]),
    (2, [1, 0, 3, 2]),
    (3, [3, 2, 1, 0]),
    (4, [2, 3, 0, 1]),
    (5, [0, 2, 1, 3]),
    (6, [2, 0, 3, 1]),
    (7, [3, 1, 2, 0]),
    (8, [1, 3, 0, 2]),
];

fn jpeg_turned(exif: &[u8]) -> Vec<u8> {
    with_segment(&jpeg(600, 400), 0xe1, &[b"Exif\0\0", exif].concat())
}

#[test]
fn jpeg_of_each_orientation_comes_out_upright() {
    for (value, seen) in SEEN {
        assert_quarters(&jpeg_turned(&exif(value, value % 2 == 0)), seen.map(|quarter| COLORS[quarter]));
    }
}

#[test]
fn png_of_each_orientation_comes_out_upright() {
    let file = png(&quadrants(60, 40, COLORS));
    for (value, seen) in SEEN {
        let turned = with_png_chunk(&file, b"eXIf", &exif(value, value % 2 == 1));
        assert_quarters(&turned, seen.map(|quarter| COLORS[quarter]));
    }
    // Some tools write the block after the pixels.
    let end = file.len() - 12;
    let late = [&file[..end], &png_chunk(b"eXIf", &exif(6, true)), &file[end..]].concat();
    assert_quarters(&late, SEEN[5].1.map(|quarter| COLORS[quarter]));
}

#[test]
fn webp_of_each_orientation_comes_out_upright() {
    const EXIF_FLAG: u8 = 0x08;
    let file = webp(&quadrants(60, 40, COLORS));
    for (value, seen) in SEEN {
        let block = exif(value, value % 2 == 0);
        for block in [block.clone(), [b"Exif\0\0", block.as_slice()].concat()] {
            let turned = with_webp_chunk(&file, (60, 40), EXIF_FLAG, b"EXIF", &block);
            assert_quarters(&turned, seen.map(|quarter| COLORS[quarter]));
        }
    }
}

#[test]
fn orientation_of_any_numeric_type_counts() {
    // Type, and the value where it fits into the entry; fractions and doubles lie behind the directory.
    for is_big_endian in [false, true] {
        for kind in [1, 3, 4, 5, 6, 8, 9, 10, 11, 12] {
            let block = exif_of_type(6, kind, is_big_endian);
            let seen = SEEN[5].1.map(|quarter| COLORS[quarter]);
            assert_quarters(&jpeg_turned(&block), seen);
            assert_quarters(&with_png_chunk(&png(&quadrants(60, 40, COLORS)), b"eXIf", &block), seen);
            let webp = webp(&quadrants(60, 40, COLORS));
            assert_quarters(&with_webp_chunk(&webp, (60, 40), 0x08, b"EXIF", &block), seen);
        }
    }
}

#[test]
fn an_empty_exif_segment_hides_no_other() {
    for empty in [&b""[..], b"II*\0", &exif(0, true)] {
        let file = with_segment(&jpeg_turned(&exif(6, true)), 0xe1, &[b"Exif\0\0", empty].concat());
        assert_quarters(&file, SEEN[5].1.map(|quarter| COLORS[quarter]));
    }
}

#[test]
fn nonsense_in_the_exif_block_leaves_the_picture_as_it_is() {
    for block in [exif(0, true), exif(9, false), exif(6, true)[..9].to_vec(), vec![], b"garbage".to_vec()] {
        assert_quarters(&jpeg_turned(&block), COLORS);
    }
    // A directory that claims to lie far behind the end.
    let mut far = exif(6, false);
    far[4..8].copy_from_slice(&[0xff; 4]);
    assert_quarters(&jpeg_turned(&far), COLORS);
}

#[test]
fn thumbnail_within_the_exif_block_is_not_mistaken_for_the_picture() {
    let block = [exif(6, true), jpeg(32, 32)].concat();
    assert_quarters(&jpeg_turned(&block), SEEN[5].1.map(|quarter| COLORS[quarter]));
    // Its end is no end of a file that breaks off.
    let whole = jpeg_turned(&block);
    assert_eq!(code(&whole[..whole.len() - 200]), "image_corrupt");
    assert!(run(&whole).is_ok());
}
