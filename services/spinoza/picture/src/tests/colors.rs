//! Colours are shown as the file means them: profiles and numbers about colours are turned into sRGB.

use image::RgbaImage;
use moxcms::ColorProfile;

use super::samples::*;
use super::*;

/// sRGB with red and green in each other's place.
fn swapped() -> Vec<u8> {
    let mut profile = ColorProfile::new_srgb();
    std::mem::swap(&mut profile.red_colorant, &mut profile.green_colorant);
    profile.cicp = None;
    profile.encode().unwrap()
}

fn iccp(profile: &[u8]) -> Vec<u8> {
    [&b"name\0\0"[..], &zlib(profile)].concat()
}

fn in_jpeg(file: &[u8], profile: &[u8]) -> Vec<u8> {
    // In two parts, of which the second comes first.
    let (first, second) = profile.split_at(profile.len() / 2);
    let file = with_segment(file, 0xe2, &[b"ICC_PROFILE\0\x01\x02", first].concat());
    with_segment(&file, 0xe2, &[b"ICC_PROFILE\0\x02\x02", second].concat())
}

#[test]
fn a_profile_in_any_format_is_turned_into_srgb() {
    let (picture, profile) = (quadrants(640, 600, COLORS), swapped());
    let seen = COLORS.map(|[red, green, blue, alpha]| [green, red, blue, alpha]);
    assert_quarters(&with_png_chunk(&png(&picture), b"iCCP", &iccp(&profile)), seen);
    assert_quarters(&in_jpeg(&jpeg(640, 600), &profile), seen);
    assert_quarters(&in_jpeg(&progressive_jpeg(640, 600), &profile), seen);
    for simple in [webp(&picture), lossless_webp(&picture)] {
        let chunks = [riff_chunk(b"ICCP", &profile), simple[12..].to_vec()].concat();
        assert_quarters(&extended_webp(0x20, (640, 600), &chunks), seen);
    }
    // Opacity is no colour.
    let clear = quadrants(640, 600, [RED, CLEAR, BLUE, SAND]);
    let seen = [seen[0], CLEAR, seen[2], seen[3]];
    assert_quarters(&with_png_chunk(&png(&clear), b"iCCP", &iccp(&profile)), seen);
}

#[test]
fn wide_samples_are_converted_too() {
    let lines: Vec<u8> = quadrants(40, 40, COLORS)
        .rows()
        .flat_map(|row| {
            let samples = row.flat_map(|pixel| pixel.0[..3].iter().flat_map(|&s| [s, s]).collect::<Vec<_>>());
            [0].into_iter().chain(samples).collect::<Vec<u8>>()
        })
        .collect();
    let chunk = png_chunk(b"iCCP", &iccp(&swapped()));
    let seen = COLORS.map(|[red, green, blue, alpha]| [green, red, blue, alpha]);
    assert_quarters(&raw_png((40, 40), [16, 2, 0], &chunk, &lines), seen);
}

#[test]
fn grey_follows_profiles_of_grey_and_of_colors() {
    // Light as it is: 55 of 255 is shown by 128.
    let linear = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    let grey = raw_png(
        (40, 40),
        [8, 0, 0],
        &png_chunk(b"iCCP", &iccp(&linear)),
        &[&[0][..], &[55; 40]].concat().repeat(40),
    );
    assert_quarters(&grey, [[128, 128, 128, 255]; 4]);
    let grey = raw_png(
        (40, 40),
        [8, 0, 0],
        &png_chunk(b"iCCP", &iccp(&swapped())),
        &[&[0][..], &[55; 40]].concat().repeat(40),
    );
    assert_quarters(&grey, [[55, 55, 55, 255]; 4]);
}

#[test]
fn gamma_and_code_points_of_a_png_count() {
    let dark = [55, 55, 55, 255];
    let file = png(&RgbaImage::from_pixel(64, 64, image::Rgba(dark)));
    let gamma = |value: u32| with_png_chunk(&file, b"gAMA", &value.to_be_bytes());
    assert_quarters(&gamma(100_000), [[128, 128, 128, 255]; 4]);
    assert_quarters(&gamma(45_455), [dark; 4]);
    // A file that says sRGB means it.
    assert_quarters(&with_png_chunk(&gamma(100_000), b"sRGB", &[0]), [dark; 4]);
    // Light as it is (8), with the primaries of sRGB (1).
    assert_quarters(&with_png_chunk(&file, b"cICP", &[1, 8, 0, 1]), [[128, 128, 128, 255]; 4]);
    // They come before a profile.
    let both = with_png_chunk(&file, b"iCCP", &iccp(&swapped()));
    assert_quarters(&with_png_chunk(&both, b"cICP", &[1, 8, 0, 1]), [[128, 128, 128, 255]; 4]);
    // The red of Display P3 (12, 13) is beyond that of sRGB.
    let red = png(&RgbaImage::from_pixel(64, 64, image::Rgba([200, 60, 60, 255])));
    assert_quarters(&with_png_chunk(&red, b"cICP", &[12, 13, 0, 1]), [[217, 43, 54, 255]; 4]);
}

#[test]
fn a_profile_that_makes_no_sense_is_none() {
    let picture = quadrants(64, 64, COLORS);
    let mut cut = swapped();
    cut.truncate(100);
    for profile in [b"secret profile".to_vec(), cut, vec![0; 3000]] {
        assert_quarters(&with_png_chunk(&png(&picture), b"iCCP", &iccp(&profile)), COLORS);
        assert_quarters(&in_jpeg(&jpeg(64, 64), &profile), COLORS);
    }
    // One of grey says nothing about colours, and one whose part is missing nothing at all.
    let grey = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    assert_quarters(&with_png_chunk(&png(&picture), b"iCCP", &iccp(&grey)), COLORS);
    let part = [b"ICC_PROFILE\0\x01\x02", swapped().as_slice()].concat();
    assert_quarters(&with_segment(&jpeg(64, 64), 0xe2, &part), COLORS);
}
