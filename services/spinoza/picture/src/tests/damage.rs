//! What is only odd in a JPEG is taken, as browsers take it; what is damaged is not, also when something odd comes first.

use super::samples::*;
use super::{assert_quarters, code};

fn positions(file: &[u8], marker: u8) -> Vec<usize> {
    file.windows(2).enumerate().filter(|(_, found)| **found == [0xff, marker]).map(|(at, _)| at).collect()
}

fn with_bytes(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&file[..at], bytes, &file[at..]].concat()
}

#[test]
fn odd_parameters_are_no_damage() {
    let mut file = jpeg(300, 200);
    let scan = positions(&file, 0xda)[0];
    // Marker, length, count, three components of two bytes, then the first and the last coefficient.
    file[scan + 2 + 2 + 1 + 6 + 1] = 0;
    assert_quarters(&file, COLORS);

    let mut file = jpeg(300, 200);
    let version = file.windows(5).position(|found| found == b"JFIF\0").unwrap() + 5;
    file[version] = 2;
    assert_quarters(&file, COLORS);
}

#[test]
fn stray_and_fill_bytes_between_segments_are_no_damage() {
    for file in [jpeg(300, 200), progressive_jpeg(300, 200)] {
        for marker in [0xc0, 0xc2, 0xc4, 0xda, 0xdb] {
            for at in positions(&file, marker).into_iter().take(3) {
                assert_quarters(&with_bytes(&file, at, &[0xff; 5]), COLORS);
                assert_quarters(&with_bytes(&file, at, b"\0junk"), COLORS);
            }
        }
    }
}

#[test]
fn something_harmless_hides_no_damage() {
    let file = progressive_jpeg(300, 200);
    let second = positions(&file, 0xda)[1];
    let odd = with_bytes(&file, second, b"stray");
    assert_eq!(code(&odd), "ok");
    let third = positions(&odd, 0xda)[2];
    // Cut inside the second scan, with and without an end of the image.
    let cut = &odd[..third - 20];
    assert_eq!(code(cut), "image_corrupt");
    assert_eq!(code(&[cut, &[0xff, 0xd9]].concat()), "image_corrupt");
}

#[test]
fn metadata_of_any_length_before_the_picture_is_taken() {
    let mut file = jpeg(300, 200);
    for _ in 0..40 {
        file = with_segment(&file, 0xe2, &[0xff; 65_533]);
    }
    assert_quarters(&file, COLORS);
}

#[test]
fn more_scans_than_any_program_writes_are_refused_with_the_reason() {
    let file = progressive_jpeg(64, 64);
    let scans = positions(&file, 0xda);
    // The last scan, again and again: each is a pass over the whole picture.
    let (end, last) = (file.len() - 2, scans[scans.len() - 1]);
    let many = [&file[..end], &file[last..end].repeat(100), &file[end..]].concat();
    let rejection = super::run(&many).unwrap_err();
    assert_eq!(rejection.code(), "unsupported_image", "{rejection:?}");
    assert!(rejection.to_string().contains("64 scans"));
}
