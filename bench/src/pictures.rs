//! From the 202 of an upload to its variants in the profile, with a photograph-like picture of 12 megapixels.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use orrery_tests::{Client, Person};
use turbojpeg::{Image, PixelFormat, Subsamp};

use crate::figures::{Bound, Figure, Times, Unit};
use crate::progress;
use crate::stage::{PATIENCE, Stage};

const WARM_UP: usize = 3;
const MEASURED: usize = 25;
const VARIANTS_AIM_MS: f64 = 250.0;
const WIDTH: u32 = 4000;
const HEIGHT: u32 = 3000;
/// Between two looks at an upload: short beside the aim, long beside what a look costs.
const POLL: Duration = Duration::from_millis(4);

/// Uploads the picture again and again for one person.
///
/// # Errors
/// An upload fails or does not end as `done`.
pub async fn measure(stage: &Stage, picture: &Bytes) -> Result<Vec<Figure>> {
    progress(&format!("{MEASURED} uploads of 12 megapixels, {} KiB", picture.len() / 1024));
    let client = stage.client()?.signed_up(&Person::new()).await?;
    let (mut uploads, mut variants) = (Times::default(), Times::default());
    for number in 0..WARM_UP + MEASURED {
        let sent = Instant::now();
        let answer = client.put_avatar(picture.clone(), "image/jpeg").await?.expect(202)?;
        let taken = Instant::now();
        wait_done(&client, answer.location()?).await?;
        if number >= WARM_UP {
            uploads.add(taken - sent);
            variants.add(taken.elapsed());
        }
    }
    let megabytes = f64::from(u32::try_from(picture.len())?) / 1e6;
    Ok(vec![
        variants.figure("upload (202) to variants, 12 megapixels", 50, Bound::Aim(VARIANTS_AIM_MS))?,
        variants.figure("upload (202) to variants, 12 megapixels", 99, Bound::Aim(VARIANTS_AIM_MS))?,
        uploads.figure("the upload itself (PUT to 202)", 50, Bound::None)?,
        Figure::once("the picture's size", megabytes, Unit::Megabytes, Bound::None),
    ])
}

/// Asks until an upload is done.
///
/// # Errors
/// It ends otherwise, or is still pending after 30 s.
pub async fn wait_done(client: &Client, location: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let answer = client.upload_status(location).await?.expect(200)?;
        match answer.text("status")? {
            "done" => return Ok(()),
            status => ensure!(status == "pending", "the upload ended as {}", answer.body),
        }
        ensure!(start.elapsed() < PATIENCE, "the upload is still pending after {PATIENCE:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// A JPEG of 12 megapixels that decoders find as hard as a phone's photograph: shapes of every size with hard edges,
/// soft colours and a sensor's grain. The same bytes in every run.
///
/// # Errors
/// The encoder refuses it.
pub fn photograph() -> Result<Bytes> {
    progress("making a photograph of 12 megapixels");
    let (width, height) = (usize::try_from(WIDTH)?, usize::try_from(HEIGHT)?);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            pixels.extend(pixel(x, y));
        }
    }
    let picture =
        Image { pixels: pixels.as_slice(), width, height, pitch: width * 3, format: PixelFormat::RGB };
    // What phones write: quality about 90, colours at half the resolution.
    let jpeg = turbojpeg::compress(picture, 90, Subsamp::Sub2x2).context("encoding the photograph")?;
    Ok(Bytes::copy_from_slice(&jpeg))
}

/// The octaves of the shapes: the cells' side as a power of two, and how much they weigh.
const OCTAVES: [(u32, u32); 9] =
    [(9, 92), (8, 62), (7, 38), (6, 24), (5, 14), (4, 10), (3, 7), (2, 5), (1, 4)];
const WEIGHTS: u32 = 256;

fn pixel(x: u32, y: u32) -> [u8; 3] {
    let clouds: u32 = OCTAVES.iter().map(|(side, weight)| noise(x, y, *side, *side) * weight).sum();
    let edge = if noise(x, y, 8, 20) > 140 { 48 } else { 0 };
    let light = clouds / WEIGHTS + edge + hash(x, y, 30) % 15;
    let (warm, cold) = (noise(x, y, 9, 21) / 6, noise(x, y, 8, 22) / 6);
    [light + warm, light + (warm + cold) / 2, light + cold]
        .map(|value| u8::try_from(value.saturating_sub(32).min(255)).unwrap_or(u8::MAX))
}

/// Smooth noise of 0 to 255 on a lattice of cells of 2^`side` pixels.
fn noise(x: u32, y: u32, side: u32, seed: u32) -> u32 {
    let cell = 1 << side;
    let (column, row, right, down) = (x >> side, y >> side, x & (cell - 1), y & (cell - 1));
    let corner = |column, row| hash(column, row, seed) & 255;
    let top = corner(column, row) * (cell - right) + corner(column + 1, row) * right;
    let bottom = corner(column, row + 1) * (cell - right) + corner(column + 1, row + 1) * right;
    (top * (cell - down) + bottom * down) >> (2 * side)
}

fn hash(x: u32, y: u32, seed: u32) -> u32 {
    let mixed = x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77) ^ seed.wrapping_mul(0xc2b2_ae3d);
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d);
    let mixed = (mixed ^ (mixed >> 12)).wrapping_mul(0x297a_2d39);
    mixed ^ (mixed >> 15)
}
