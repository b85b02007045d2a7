//! What a hostile file does to its worker costs that file alone; the next one is made.

use std::time::{Duration, Instant};

use bytes::Bytes;
use orrery_picture::{Limits, Preset};
use orrery_picture_worker::{Launch, Made, Pool, PoolError, Settings};

const MIB: u64 = 1024 * 1024;

fn pool(settings: Settings) -> Pool {
    let program = env!("CARGO_BIN_EXE_misbehaving-worker").into();
    Pool::new(Launch { program, arguments: Vec::new() }, settings)
}

fn settings() -> Settings {
    Settings {
        workers: 1,
        memory_bytes: 256 * MIB,
        time_limit: Duration::from_secs(20),
        limits: Limits::default(),
    }
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 64])
    });
    assert!(picture.write_to(&mut file, image::ImageFormat::Png).is_ok(), "no PNG of {width} x {height}");
    file.into_inner()
}

fn saying(word: &str) -> Bytes {
    [png(64, 64), format!("TEST:{word}").into_bytes()].concat().into()
}

#[track_caller]
fn assert_made(made: &Result<Made, PoolError>) {
    assert!(matches!(made, Ok(Made::Variants { variants, .. }) if !variants.is_empty()), "{made:?}");
}

#[track_caller]
fn code(made: &Result<Made, PoolError>) -> &str {
    match made {
        Ok(Made::Rejected { code, .. }) => code,
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn variants_are_those_that_the_function_makes() {
    let file = png(700, 600);
    let expected = orrery_picture::optimise(&file, &Preset::avatar(), &Limits::default()).unwrap();
    let pool = pool(settings());
    for _ in 0..3 {
        let made = pool.make(file.clone().into(), &Preset::avatar()).await.unwrap();
        let Made::Variants { variants, thumbhash } = made else { panic!("{made:?}") };
        assert_eq!((&variants, &thumbhash), (&expected.variants, &expected.thumbhash));
    }
}

#[tokio::test]
async fn a_file_that_ends_its_worker_is_rejected_and_the_next_one_is_made() {
    let pool = pool(settings());
    for word in ["abort", "panic", "memory", "open", "connect", "exec"] {
        let made = pool.make(saying(word), &Preset::avatar()).await;
        assert_eq!(code(&made), "image_breaks_decoder", "{word}");
        assert_made(&pool.make(png(64, 64).into(), &Preset::avatar()).await);
    }
}

#[tokio::test]
async fn an_endless_file_is_rejected_at_the_time_limit() {
    let pool = pool(Settings { time_limit: Duration::from_millis(700), ..settings() });
    pool.warm().await.unwrap();
    for word in ["loop", "sleep"] {
        let start = Instant::now();
        let made = pool.make(saying(word), &Preset::avatar()).await;
        assert_eq!(code(&made), "image_takes_too_long", "{word}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_made(&pool.make(png(64, 64).into(), &Preset::avatar()).await);
    }
}

#[tokio::test]
async fn memory_is_reserved_before_a_file_is_decoded() {
    let file = png(3000, 3000);
    let too_little = pool(Settings { memory_bytes: 40 * MIB, ..settings() });
    let made = too_little.make(file.clone().into(), &Preset::avatar()).await;
    assert_eq!(code(&made), "image_needs_too_much_memory");
    // Enough for one at a time: all are made, the others wait.
    let pool = pool(Settings { workers: 4, memory_bytes: 140 * MIB, ..settings() });
    let preset = Preset::avatar();
    let all = (0..4).map(|_| pool.make(file.clone().into(), &preset));
    for made in futures_util::future::join_all(all).await {
        assert_made(&made);
    }
}

#[tokio::test]
async fn what_is_reserved_suffices_for_every_format() {
    let written = |picture: image::DynamicImage, format: image::ImageFormat| {
        let mut file = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut file, format).unwrap();
        file.into_inner()
    };
    let shade = |x: u32, y: u32| [x.to_le_bytes()[0], y.to_le_bytes()[0], 64, 200];
    let narrow = image::RgbaImage::from_fn(3000, 2500, |x, y| image::Rgba(shade(x, y)));
    let wide =
        image::ImageBuffer::from_fn(3000, 2500, |x, y| image::Rgba(shade(x, y).map(|s| u16::from(s) * 257)));
    let pool = pool(Settings { memory_bytes: 512 * MIB, ..settings() });
    for (picture, format) in [
        (image::DynamicImage::ImageRgba16(wide), image::ImageFormat::Png),
        (narrow.clone().into(), image::ImageFormat::Png),
        (narrow.clone().into(), image::ImageFormat::WebP),
        (image::DynamicImage::from(narrow).into_rgb8().into(), image::ImageFormat::WebP),
    ] {
        for preset in [Preset::avatar(), Preset::banner(), Preset::attachment()] {
            assert_made(&pool.make(written(picture.clone(), format).into(), &preset).await);
        }
    }
}

#[tokio::test]
async fn a_pool_that_cannot_start_says_so() {
    let launch = Launch { program: "/nowhere/orrery".into(), arguments: Vec::new() };
    let made = Pool::new(launch, settings()).make(png(64, 64).into(), &Preset::avatar()).await;
    assert!(matches!(made, Err(PoolError::Start(_))), "{made:?}");
}
