//! Every format and kind of pixel comes out in the right colours, in the right place.

use image::{ImageEncoder, Rgba, RgbaImage};
use turbojpeg::PixelFormat;

use super::samples::*;
use super::*;

#[test]
fn each_format_gives_all_sides_in_the_right_colors() {
    let picture = quadrants(700, 640, COLORS);
    assert_quarters(&jpeg(700, 640), COLORS);
    assert_quarters(&progressive_jpeg(700, 640), COLORS);
    assert_quarters(&png(&picture), COLORS);
    assert_quarters(&webp(&picture), COLORS);
    assert_quarters(&lossless_webp(&picture), COLORS);
    assert_quarters(&gif(&[picture]), COLORS);
}

#[test]
fn large_jpeg_is_reduced_while_decoding_without_a_shift() {
    assert_quarters(&jpeg(4000, 3000), COLORS);
    assert_quarters(&jpeg(3001, 4003), COLORS);
}

#[test]
fn animations_give_their_first_frame() {
    let (first, second) = (quadrants(80, 80, COLORS), quadrants(80, 80, [BLUE; 4]));
    assert_quarters(&gif(&[first.clone(), second]), COLORS);
    assert_quarters(&animated_webp(&first), COLORS);
}

#[test]
fn wide_and_high_pictures_are_cropped_to_their_middle() {
    // The middle square of 400 pixels; what is left and right of it is not to be seen.
    let stripes =
        RgbaImage::from_fn(1200, 400, |x, _| Rgba(if (400..800).contains(&x) { GREEN } else { RED }));
    assert_quarters(&png(&stripes), [GREEN; 4]);
    assert_quarters(&png(&image::imageops::rotate90(&stripes)), [GREEN; 4]);
    let thin = quadrants(16_000, 20, COLORS);
    assert_quarters(&png(&thin), COLORS);
    assert_quarters(&jpeg(16_000, 20), COLORS);
}

#[test]
fn picture_smaller_than_a_side_is_not_enlarged() {
    let sides = |input: &[u8]| run(input).unwrap().iter().map(|v| (v.width, v.height)).collect::<Vec<_>>();
    assert_eq!(sides(&jpeg(700, 640)), [(512, 512), (256, 256), (64, 64)]);
    assert_eq!(sides(&jpeg(100, 60)), [(60, 60)]);
    assert_eq!(sides(&png(&quadrants(16, 16, COLORS))), [(16, 16)]);
    assert_quarters(&png(&quadrants(16, 16, COLORS)), COLORS);
    assert_quarters(&jpeg(100, 60), COLORS);
}

#[test]
fn opacity_is_kept_and_invisible_colors_do_not_bleed() {
    // The invisible half is bright red: mixed in, it would tint the edge of the blue one.
    let picture = RgbaImage::from_fn(640, 640, |x, _| Rgba(if x < 320 { BLUE } else { [255, 0, 0, 0] }));
    for file in [png(&picture), lossless_webp(&picture), gif(std::slice::from_ref(&picture))] {
        for variant in run(&file).unwrap() {
            let found = quarters(&variant);
            assert_close(found[0], BLUE);
            assert_eq!((found[1][3], found[3][3]), (0, 0));
            let seen = view(&variant);
            let is_tinted = seen.pixels().any(|pixel| pixel[3] > 128 && pixel[0] > 60);
            assert!(!is_tinted, "red bleeds into the {} variant", variant.width);
        }
    }
    let half = [BLUE[0], BLUE[1], BLUE[2], 128];
    assert_quarters(&png(&quadrants(600, 600, [half; 4])), [half; 4]);
    assert_quarters(&webp(&quadrants(600, 600, [half; 4])), [half; 4]);
}

#[test]
fn gif_frame_smaller_than_its_screen_is_placed_on_it() {
    // Screen 64 x 64; the frame of 32 x 32 starts in its middle.
    let mut file = gif(&[quadrants(32, 32, [RED; 4])]);
    file[6..10].copy_from_slice(&[64, 0, 64, 0]);
    let descriptor = file.windows(9).position(|found| found == b"\x2c\0\0\0\0\x20\0\x20\0").unwrap();
    file[descriptor + 1] = 32;
    file[descriptor + 3] = 32;
    assert_quarters(&file, [CLEAR, CLEAR, CLEAR, RED]);
}

#[test]
fn gif_without_a_screen_shows_its_first_frame() {
    let mut file = gif(&[quadrants(96, 80, COLORS)]);
    file[6..10].fill(0);
    assert_quarters(&file, COLORS);
    // Nor is one cut off that is larger than its screen.
    file[6..10].copy_from_slice(&[40, 0, 40, 0]);
    assert_quarters(&file, COLORS);
}

#[test]
fn grey_jpeg_stays_grey() {
    let pixels = vec![90; 600 * 600];
    let file = jpeg_of(&pixels, (600, 600), PixelFormat::GRAY, |compressor| {
        compressor.set_subsamp(turbojpeg::Subsamp::Gray).unwrap();
    });
    assert_quarters(&file, [[90, 90, 90, 255]; 4]);
}

#[test]
fn lossless_jpeg_is_decoded_at_full_size() {
    let pixels: Vec<u8> = quadrants(1500, 1400, COLORS).pixels().flat_map(|pixel| pixel.0).collect();
    let file = jpeg_of(&pixels, (1500, 1400), PixelFormat::RGBX, |compressor| {
        compressor.set_lossless(true).unwrap();
    });
    assert_quarters(&file, COLORS);
}

#[test]
fn cmyk_jpeg_becomes_rgb() {
    // As Adobe's programs store it: the complement of the ink. Light is the product of a colour's and black's.
    let stored: Vec<u8> = quadrants(600, 600, COLORS).pixels().flat_map(|pixel| pixel.0).collect();
    let file = jpeg_of(&stored, (600, 600), PixelFormat::CMYK, |_| {});
    assert_quarters(&file, COLORS);

    // Without Adobe's mark nearly all files store the complement too, and browsers take it as such.
    let adobe = file.windows(5).position(|found| found == b"Adobe").unwrap();
    let mut plain = jpeg_of(&stored, (600, 600), PixelFormat::CMYK, |compressor| {
        compressor.set_colorspace(turbojpeg::Colorspace::CMYK).unwrap();
    });
    plain[adobe] = b'a';
    assert_quarters(&plain, COLORS);
}

#[test]
fn sixteen_bit_pngs_keep_their_colors() {
    let wide = |samples: &[u8]| samples.iter().flat_map(|&sample| [sample, 0x80]).collect::<Vec<u8>>();
    let rows = |channels: usize, depth_and_color: [u8; 2]| {
        let picture = quadrants(40, 40, COLORS);
        let lines: Vec<u8> = picture
            .rows()
            .flat_map(|row| {
                let samples: Vec<u8> = row.flat_map(|pixel| pixel.0[4 - channels..].to_vec()).collect();
                [vec![0], wide(&samples)].concat()
            })
            .collect();
        raw_png((40, 40), [depth_and_color[0], depth_and_color[1], 0], &[], &lines)
    };
    // RGBA; then RGB of green, blue and opacity as colours; then the blue sample as grey with opacity.
    assert_quarters(&rows(4, [16, 6]), COLORS);
    assert_quarters(&rows(3, [16, 2]), COLORS.map(|[_, g, b, a]| [g, b, a, 255]));
    assert_quarters(&rows(2, [16, 4]), COLORS.map(|[_, _, b, _]| [b, b, b, 255]));
    assert_quarters(&rows(1, [16, 0]), [[255; 4]; 4]);
}

#[test]
fn grey_and_palette_pngs_keep_their_colors() {
    // Grey with opacity, 8 bits: left half opaque, right half invisible.
    let lines: Vec<u8> =
        (0..32).flat_map(|_| [vec![0], [[77, 255]; 16].concat(), [[77, 0]; 16].concat()].concat()).collect();
    assert_quarters(&raw_png((32, 32), [8, 4, 0], &[], &lines), {
        let grey = [77, 77, 77, 255];
        [grey, CLEAR, grey, CLEAR]
    });
    // Palette of 2 bits with opacity: the third colour is invisible.
    let palette: Vec<u8> = COLORS.iter().flat_map(|color| color[..3].to_vec()).collect();
    let chunks = [png_chunk(b"PLTE", &palette), png_chunk(b"tRNS", &[255, 255, 0])].concat();
    let line = |left: u8, right: u8| [vec![0], vec![left * 0x55; 4], vec![right * 0x55; 4]].concat();
    let lines = [line(0, 1).repeat(16), line(2, 3).repeat(16)].concat();
    assert_quarters(&raw_png((32, 32), [2, 3, 0], &chunks, &lines), [RED, GREEN, CLEAR, SAND]);
    // One bit of grey.
    let lines = [0, 0xff, 0xff, 0, 0].repeat(32);
    let (black, white) = ([0, 0, 0, 255], [255; 4]);
    assert_quarters(&raw_png((32, 32), [1, 0, 0], &[], &lines), [white, black, white, black]);
}

#[test]
fn interlaced_png_is_put_together() {
    // The seven passes of Adam7: start and step, across and down.
    let passes =
        [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)];
    let picture = quadrants(40, 40, COLORS);
    let mut lines = Vec::new();
    for (x_start, x_step, y_start, y_step) in passes {
        for y in (y_start..40).step_by(y_step) {
            lines.push(0);
            for x in (x_start..40).step_by(x_step) {
                lines.extend(&picture.get_pixel(x, y).0[..3]);
            }
        }
    }
    assert_quarters(&raw_png((40, 40), [8, 2, 1], &[], &lines), COLORS);
}

#[test]
fn photograph_stays_close_to_itself() {
    let variants = run(ASTRONAUT).unwrap();
    let original = turbojpeg::decompress(ASTRONAUT, PixelFormat::RGB).unwrap();
    let seen = view(&variants[0]);
    let error: u64 = original
        .pixels
        .chunks_exact(3)
        .zip(seen.pixels())
        .flat_map(|(pixel, seen)| (0..3).map(|i| u64::from(pixel[i].abs_diff(seen[i])).pow(2)))
        .sum();
    let samples = u64::try_from(original.pixels.len()).unwrap();
    assert!(error / samples < 40, "mean squared error of {}", error / samples);
    assert!(variants.iter().all(|variant| variant.bytes.len() < 60_000));
}

#[test]
fn other_pictures_are_told_from_other_files() {
    assert_eq!(code(b"\0\0\0\x20ftypheic\0\0\0\0"), "unsupported_image");
    assert_eq!(code(b"II*\0\x08\0\0\0"), "unsupported_image");
    assert_eq!(code(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "unsupported_image");
    assert_eq!(code(b"#!/bin/sh\n"), "not_an_image");
    assert_eq!(code(b"BM\x46\0\0\0\0\0\0\0"), "unsupported_image");
    let text = run(b"\0\0\0\x20ftypheic\0\0\0\0").unwrap_err().to_string();
    assert_eq!(
        text,
        "A HEIC picture is not supported. Save the picture as JPEG, PNG, WebP or GIF and upload it again."
    );
}

#[test]
fn jpeg_of_twelve_bits_is_not_supported() {
    let mut file = jpeg(64, 64);
    let frame = file.windows(2).position(|found| found == [0xff, 0xc0]).unwrap();
    file[frame + 4] = 12;
    assert_eq!(code(&file), "unsupported_image");
}

#[test]
fn a_preset_that_cannot_be_made_is_our_fault() {
    let input = jpeg(300, 300);
    for sizes in [vec![], vec![(0, 0)], vec![(20_000, 20)], vec![(64, 64), (128, 128)]] {
        let sizes = sizes.into_iter().map(|(width, height)| Size { width, height }).collect();
        let rejection = optimise(&input, &Preset { sizes, ..preset() }, &Limits::default()).unwrap_err();
        assert_eq!(rejection.code(), "image_processing_failed");
    }
}

#[test]
fn presets_make_banners_attachments_and_jpegs_for_old_clients() {
    let half_clear = quadrants(1600, 1200, [RED, CLEAR, BLUE, SAND]);
    let made = |preset: &Preset| optimise(&png(&half_clear), preset, &Limits::default()).unwrap();
    let sizes = |made: &Optimised| {
        made.variants.iter().map(|v| (v.width, v.height, v.format.extension())).collect::<Vec<_>>()
    };
    let banner = made(&in_both_formats(Preset::banner()));
    assert_eq!(
        sizes(&banner),
        [(1500, 500, "webp"), (1500, 500, "jpg"), (750, 250, "webp"), (750, 250, "jpg")]
    );
    let attachment = made(&in_both_formats(Preset::attachment()));
    assert_eq!(
        sizes(&attachment),
        [(1600, 1200, "webp"), (1600, 1200, "jpg"), (640, 480, "webp"), (640, 480, "jpg")]
    );
    for made in [banner, attachment] {
        assert!((5..=25).contains(&made.thumbhash.len()));
        for variant in made.variants.iter().filter(|variant| variant.format == OutputFormat::Jpeg) {
            let seen = turbojpeg::decompress(&variant.bytes, PixelFormat::RGBX).unwrap();
            let (width, height) = (seen.width, seen.height);
            let at =
                |x: usize, y: usize| <[u8; 4]>::try_from(&seen.pixels[(y * width + x) * 4..][..4]).unwrap();
            let [r, g, b, _] = at(width * 3 / 4, height / 4);
            assert_close([r, g, b, 255], [255; 4]);
            let [r, g, b, _] = at(width / 4, height / 4);
            assert_close([r, g, b, 255], RED);
        }
    }
}

#[track_caller]
fn assert_filled(input: &[u8], preset: &Preset, color: [u8; 4]) {
    let made = optimise(input, preset, &Limits::default()).unwrap();
    quarters(&made.variants[0]).into_iter().for_each(|found| assert_close(found, color));
}

#[test]
fn a_focus_decides_what_is_cut_off_also_of_a_turned_picture() {
    // Three parts side by side: the focus on the right one shows it alone.
    let stripes = RgbaImage::from_fn(1200, 400, |x, _| Rgba(COLORS[usize::try_from(x / 400).unwrap()]));
    let pixels: Vec<u8> = stripes.pixels().flat_map(|pixel| pixel.0).collect();
    let file = jpeg_of(&pixels, (1200, 400), PixelFormat::RGBA, |_| {});
    for (x, color) in [(0.0, RED), (0.5, GREEN), (1.0, BLUE)] {
        let mut preset = square(128);
        preset.focus.x = x;
        assert_filled(&file, &preset, color);
        assert_filled(&png(&stripes), &preset, color);
        // Held upside down, left is what was stored on the right.
        let turned = with_segment(&file, 0xe1, &[b"Exif\0\0", exif(3, true).as_slice()].concat());
        preset.focus.x = 1.0 - x;
        assert_filled(&turned, &preset, color);
        // A quarter to the right: down is what was stored on the right.
        preset.focus = crate::Focus { x: 0.5, y: x };
        let turned = with_segment(&file, 0xe1, &[b"Exif\0\0", exif(6, true).as_slice()].concat());
        assert_filled(&turned, &preset, color);
    }
}

#[test]
fn grey_png_becomes_rgb() {
    let mut file = Vec::new();
    image::codecs::png::PngEncoder::new(&mut file)
        .write_image(&[120; 64 * 64], 64, 64, image::ExtendedColorType::L8)
        .unwrap();
    assert_quarters(&file, [[120, 120, 120, 255]; 4]);
}
