//! Pictures that are none, lie, or are broken: refused at once where their first bytes show it, else rejected with a reason.

use anyhow::{Context, Result, ensure};
use orrery_tests::{Answer, Client, Person, World, pictures};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::Value;

use crate::{Footprint, LONG, refused, unharmed};

/// Bytes that look like nothing, the same in every run.
fn noise(count: usize) -> Vec<u8> {
    let mut state: u32 = 0x9e37_79b9;
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    });
    next.flatten().take(count).collect()
}

fn start(bytes: &[u8], count: usize) -> Result<Vec<u8>> {
    Ok(bytes.get(..count).context("a shorter picture")?.to_vec())
}

/// What, its bytes, sent as what, and the code of the refusal.
type Lie = (&'static str, Vec<u8>, &'static str, &'static str);

fn refused_at_once() -> Result<Vec<Lie>> {
    let jpeg = pictures::astronaut()?;
    let webp = pictures::gradient_webp(64, 64)?;
    let gif = pictures::gradient_gif(64, 64, 2)?;
    Ok(vec![
        ("one byte", vec![0x89], "image/png", "not_an_image"),
        ("HTML", b"<!doctype html><script>alert(1)</script>".to_vec(), "image/png", "not_an_image"),
        (
            "SVG",
            b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'/>".to_vec(),
            "image/png",
            "not_an_image",
        ),
        ("a program", [b"\x7fELF".to_vec(), noise(5000)].concat(), "image/jpeg", "not_an_image"),
        ("a BMP", [b"BM".to_vec(), noise(5000)].concat(), "image/png", "not_an_image"),
        ("a TIFF", [b"II*\0\x08\0\0\0".to_vec(), vec![0; 100]].concat(), "image/png", "not_an_image"),
        ("noise", noise(100_000), "image/png", "not_an_image"),
        ("NULs", vec![0; 100_000], "image/gif", "not_an_image"),
        ("a JPEG as PNG", jpeg.clone(), "image/png", "type_mismatch"),
        ("a PNG as JPEG", pictures::gradient_png(64, 64)?, "image/jpeg", "type_mismatch"),
        ("a WebP as GIF", webp, "image/gif", "type_mismatch"),
        ("one pixel", pictures::one_pixel_png()?, "image/png", "too_small"),
        ("15 x 600 pixels", pictures::gradient_png(15, 600)?, "image/png", "too_small"),
        ("no pixels", pictures::lying_png(0, 0)?, "image/png", "corrupt"),
        ("60000 x 60000", pictures::lying_png(60_000, 60_000)?, "image/png", "too_many_pixels"),
        ("2^32-1 x 2^32-1", pictures::lying_png(u32::MAX, u32::MAX)?, "image/png", "too_many_pixels"),
        ("17000 x 16", pictures::lying_png(17_000, 16)?, "image/png", "too_many_pixels"),
        ("the first bytes of a PNG", start(&pictures::gradient_png(64, 64)?, 12)?, "image/png", "corrupt"),
        ("the first bytes of a JPEG", start(&jpeg, 20)?, "image/jpeg", "corrupt"),
        (
            "a JPEG's start and then NULs",
            [start(&jpeg, 20)?, vec![0; 700_000]].concat(),
            "image/jpeg",
            "corrupt",
        ),
        ("NULs behind a GIF's header", [start(&gif, 13)?, vec![0; 50_000]].concat(), "image/gif", "corrupt"),
    ])
}

/// What has a good header and nothing good behind it.
fn rejected_later() -> Result<Vec<(&'static str, Vec<u8>, &'static str)>> {
    let (jpeg, png) = (pictures::astronaut()?, pictures::gradient_png(600, 400)?);
    let (webp, gif) = (pictures::gradient_webp(64, 64)?, pictures::gradient_gif(64, 64, 2)?);
    Ok(vec![
        ("half a PNG", start(&png, png.len() / 2)?, "image/png"),
        ("half a WebP", start(&webp, webp.len() / 2)?, "image/webp"),
        ("the head of a JPEG", start(&jpeg, 1000)?, "image/jpeg"),
        ("the head of a GIF", start(&gif, gif.len() / 3)?, "image/gif"),
        ("noise behind a PNG's header", [start(&png, 33)?, noise(50_000)].concat(), "image/png"),
        ("noise behind a WebP's header", [start(&webp, 30)?, noise(50_000)].concat(), "image/webp"),
        ("one pixel that says 5000 x 5000", pictures::lying_png(5000, 5000)?, "image/png"),
    ])
}

/// How many variants are in the bucket; an original may be a WebP too.
fn variants_of(world: &World) -> Result<usize> {
    let keys = world.objects()?;
    Ok(keys.iter().filter(|key| key.ends_with(".webp") && !key.ends_with("/original.webp")).count())
}

async fn put(client: &Client, picture: Vec<u8>, content_type: &str) -> Result<Answer> {
    client.put_avatar(picture, content_type).await
}

#[tokio::test]
async fn bodies_that_begin_no_picture_are_refused_and_leave_nothing() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let before = Footprint::of(&world).await?;
    for (what, picture, content_type, code) in refused_at_once()? {
        let answer = put(&client, picture, content_type).await?;
        refused(what, &answer, 422, "invalid-field", Some("body"))?;
        ensure!(answer.problem()?.field("body")?.code == code, "{what}: {:?}", answer.problem()?);
    }
    let png = pictures::gradient_png(64, 64)?;
    for content_type in [
        "text/html",
        "image/svg+xml",
        "image/tiff",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "image/*",
        "",
    ] {
        let answer = put(&client, png.clone(), content_type).await?;
        refused(content_type, &answer, 415, "unsupported-media-type", Some("Content-Type"))?;
    }
    let nothing = put(&client, Vec::new(), "image/png").await?;
    ensure!(matches!(nothing.status, 411 | 422), "nothing: {}", nothing.status);
    nothing.problem()?;
    let answer = client.send(client.request(Method::PUT, "/users/@me/avatar").body(png.clone())).await?;
    refused("no type", &answer, 415, "unsupported-media-type", Some("Content-Type"))?;
    let answer = put(&client, pictures::noise_png(11 * 1024 * 1024)?, "image/png").await?;
    refused("11 MiB", &answer, 413, "too-large", None)?;
    let stranger = world.client()?;
    refused("nobody's", &put(&stranger, png.clone(), "image/png").await?, 401, "invalid-token", None)?;
    // Nobody's picture of any kind is looked at.
    let request = stranger.request(Method::PUT, "/users/@me/avatar").header(CONTENT_TYPE, "text/html");
    refused("nobody's HTML", &stranger.send(request.body("x")).await?, 401, "invalid-token", None)?;
    unharmed(&world, &before).await
}

#[tokio::test]
async fn pictures_that_break_behind_their_header_are_rejected_with_a_reason() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let good = put(&client, pictures::gradient_png(64, 64)?, "image/png").await?.expect(202)?;
    ensure!(client.wait_upload(good.location()?, LONG).await?["status"] == "done");
    let icons = client.me().await?.expect(200)?.body["icon"].clone();
    ensure!(icons.as_array().is_some_and(|icons| !icons.is_empty()), "no icon: {icons}");
    let variants = variants_of(&world)?;

    for (what, picture, content_type) in rejected_later()? {
        let answer = put(&client, picture, content_type).await?.expect(202).context(what)?;
        let status = client.wait_upload(answer.location()?, LONG).await?;
        ensure!(status["status"] == "rejected", "{what}: {status}");
        for field in ["code", "reason", "settled_at"] {
            ensure!(
                status[field].as_str().is_some_and(|text| text.len() > 5),
                "{what} has no {field}: {status}"
            );
        }
        // The picture that was there stays.
        let me = client.me().await?.expect(200)?.body;
        ensure!(me["icon"] == icons, "{what}: {}", me["icon"]);
    }
    let left = variants_of(&world)?;
    ensure!(left == variants, "{left} variants instead of {variants}");
    let letters = world.database().count("SELECT count(*) FROM bus.dead_letters").await?;
    ensure!(letters == 0, "{letters} dead letters");
    let pending: Vec<Value> =
        world.database().rows("SELECT id FROM autha.uploads WHERE state = 'pending'").await?;
    ensure!(pending.is_empty(), "{pending:?}");
    unharmed(&world, &Footprint::of(&world).await?).await
}
