//! Pictures from upload to profile, and what is swept away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use orrery_tests::{Person, World, deadline::eventually, pictures};

const SOON: Duration = Duration::from_secs(40);

fn paths(me: &serde_json::Value) -> Vec<String> {
    let icons = me["icon"].as_array().cloned().unwrap_or_default();
    icons
        .iter()
        .filter_map(|icon| icon["url"].as_str()?.splitn(4, '/').nth(3).map(|path| format!("/{path}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_becomes_three_immutable_variants() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let person = Person::new();
    let client = world.client()?.signed_up(&person).await?;
    let placeholder = client.get(&format!("/avatars/{}", person.id)).await?.expect(200)?;
    ensure!(placeholder.header("content-type") == Some("image/svg+xml"));
    let picture = pictures::with_exif(&pictures::astronaut()?, 6)?;
    let taken = client.put_avatar(picture, "image/jpeg").await?.expect(202)?;
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");

    let me = client.me().await?.expect(200)?.body;
    let public = client.user(&person.id).await?.expect(200)?.body;
    ensure!(me["icon"] == public["icon"]);
    let widths: Vec<_> =
        me["icon"].as_array().into_iter().flatten().map(|icon| icon["width"].as_u64()).collect();
    ensure!(widths == [Some(512), Some(256), Some(64)], "{widths:?}");
    for (path, side) in paths(&me).iter().zip([512, 256, 64]) {
        let answer = client.get(path).await?.expect(200)?;
        let decoded = image::load_from_memory(&answer.bytes)?;
        ensure!((decoded.width(), decoded.height()) == (side, side));
        ensure!(answer.header("content-type") == Some("image/webp"));
        ensure!(answer.header("cache-control").is_some_and(|value| value.contains("immutable")));
        let etag = answer.header("etag").context("no ETag")?.to_owned();
        ensure!(etag.starts_with('"'), "a weak ETag {etag}");
        let again = client.request(reqwest::Method::GET, path).header("if-none-match", &etag);
        ensure!(client.send(again).await?.expect(304)?.bytes.is_empty());
        let part = client.request(reqwest::Method::GET, path).header("range", "bytes=4-11");
        let part = client.send(part).await?.expect(206)?;
        ensure!(Some(&*part.bytes) == answer.bytes.get(4..12), "{:?}", part.bytes);
        ensure!(part.header("content-range") == Some(&*format!("bytes 4-11/{}", answer.bytes.len())));
        let beyond = client.request(reqwest::Method::GET, path).header("range", "bytes=9999999-");
        client.send(beyond).await?.expect(416)?;
    }
    let current = client.get(&format!("/avatars/{}?size=100", person.id)).await?.expect(302)?;
    ensure!(current.location()?.ends_with("/256.webp"), "{}", current.location()?);
    ensure!(current.header("cache-control") == Some("public, max-age=60"));
    // The sign-up was version 1, at which the upload was taken and its result made; that it is shown is version 2.
    let told = "SELECT count(*) FROM bus.outbox WHERE type LIKE 'com.gravitalia.image.%' AND version = 1";
    ensure!(world.database().count(told).await? == 2, "an event about the picture carries another version");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_clients_are_led_to_jpeg_and_new_ones_to_webp() -> Result<()> {
    let outputs = r#"[{ format = "webp", quality = 82 }, { format = "jpeg", quality = 82 }]"#;
    let avatars = format!(r#"{{ fit = "cover", sizes = ["512x512", "64x64"], outputs = {outputs} }}"#);
    let presets = format!("{{ avatars = {avatars} }}");
    let world = World::builder().env("ORRERY_SPINOZA__PRESETS", &presets).start().await?;
    let _service = world.spawn(&[]).await?;
    let person = Person::new();
    let client = world.client()?.signed_up(&person).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");

    let me = client.me().await?.expect(200)?.body;
    let listed: Vec<_> = me["icon"].as_array().into_iter().flatten().collect();
    let shown: Vec<_> =
        listed.iter().map(|icon| (icon["width"].as_u64(), icon["mediaType"].as_str())).collect();
    let (webp, jpeg) = (Some("image/webp"), Some("image/jpeg"));
    ensure!(shown == [(Some(512), webp), (Some(512), jpeg), (Some(64), webp), (Some(64), jpeg)], "{shown:?}");
    let mut tags = Vec::new();
    // Each twice: the second is the gateway's, which may not give one client's answer to the other.
    for (accept, ending, media_type) in [
        ("image/avif,image/webp,*/*;q=0.8", "/64.webp", "image/webp"),
        ("image/png,image/*;q=0.8,*/*;q=0.5", "/64.jpg", "image/jpeg"),
        ("image/avif,image/webp,*/*;q=0.8", "/64.webp", "image/webp"),
        ("image/png,image/*;q=0.8,*/*;q=0.5", "/64.jpg", "image/jpeg"),
    ] {
        let path = format!("/avatars/{}?size=64", person.id);
        let asked = client.request(reqwest::Method::GET, &path).header("accept", accept);
        let answer = client.send(asked).await?.expect(302)?;
        ensure!(answer.location()?.ends_with(ending), "{accept}: {}", answer.location()?);
        ensure!(answer.header("vary").is_some_and(|vary| vary.eq_ignore_ascii_case("accept")), "{accept}");
        let picture = client.get(answer.location()?).await?.expect(200)?;
        ensure!(picture.header("content-type") == Some(media_type), "{accept}");
        let format = image::guess_format(&picture.bytes)?;
        ensure!(format.to_mime_type() == media_type, "{accept}: {format:?}");
        // What is at an address depends on nothing that the client says.
        ensure!(!picture.header("vary").is_some_and(|vary| vary.to_ascii_lowercase().contains("accept,")));
        tags.push(picture.header("etag").context("no ETag")?.to_owned());
    }
    ensure!(tags.first() == tags.get(2) && tags.first() != tags.get(1), "{tags:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cdn_is_where_pictures_are_led_to_and_learns_no_account() -> Result<()> {
    const CDN: &str = "https://cdn.example/orrery";
    let world = World::builder().env("ORRERY_AUTHA__CDN_URL", CDN).start().await?;
    let _service = world.spawn(&[]).await?;
    let person = Person::new();
    let client = world.client()?.signed_up(&person).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");

    let led = client.get(&format!("/avatars/{}?size=256", person.id)).await?.expect(302)?;
    ensure!(led.header("cache-control") == Some("public, max-age=60"));
    let me = client.me().await?.expect(200)?.body;
    let mut addresses = vec![led.location()?.to_owned()];
    let icons = me["icon"].as_array().into_iter().flatten();
    addresses.extend(icons.filter_map(|icon| icon["url"].as_str().map(str::to_owned)));
    ensure!(addresses.len() == 4, "{addresses:?}");
    let ids = world
        .database()
        .rows("SELECT id::text AS id FROM autha.accounts UNION ALL SELECT id::text FROM autha.uploads")
        .await?;
    for address in &addresses {
        let path = address.strip_prefix(CDN).with_context(|| format!("{address} is not at the CDN"))?;
        for id in &ids {
            let id = id["id"].as_str().context("no id")?;
            ensure!(!address.contains(id), "{address} tells an internal id");
        }
        // What the CDN fetches by that path, for everybody and for ever.
        let answer = world.client()?.get(path).await?.expect(200)?;
        ensure!(answer.header("cache-control") == Some("public, max-age=31536000, immutable"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_that_needs_too_much_memory_is_rejected_and_the_next_one_is_done() -> Result<()> {
    let world = World::builder().env("ORRERY_SPINOZA__MEMORY", "64 MiB").start().await?;
    let _service = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    // Few bytes that would be 72 MB.
    let taken = client.put_avatar(pictures::wide_png(3000, 3000)?, "image/png").await?.expect(202)?;
    let rejected = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(rejected["code"] == "image_needs_too_much_memory", "{rejected}");
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_smaller_than_a_variant_is_not_enlarged() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    // Its dimensions stand behind more metadata than a socket gives at once.
    let taken = client
        .put_avatar(pictures::after_metadata(&pictures::small_jpeg()?, 40)?, "image/jpeg")
        .await?
        .expect(202)?;
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    let me = client.me().await?.expect(200)?.body;
    let widths: Vec<_> =
        me["icon"].as_array().into_iter().flatten().map(|icon| icon["width"].as_u64()).collect();
    ensure!(widths == [Some(100), Some(64)], "{widths:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_profile_names_is_swept() -> Result<()> {
    let world = World::builder()
        .env("ORRERY_AUTHA__SWEEP_AFTER", "1s")
        .env("ORRERY_AUTHA__SWEEP_EVERY", "500ms")
        .start()
        .await?;
    let _service = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    for _ in 0..2 {
        let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
        client.wait_upload(taken.location()?, SOON).await?;
    }
    let me = client.me().await?.expect(200)?.body;
    // Two originals and three replaced variants go, three variants stay.
    eventually(SOON, "only the shown variants are left", async || {
        (world.objects().ok()?.len() == 3).then_some(())
    })
    .await?;
    for path in paths(&me) {
        client.get(&path).await?.expect(200)?;
    }
    client.delete_avatar().await?.expect(204)?;
    client.delete_avatar().await?.expect(204)?;
    ensure!(client.me().await?.expect(200)?.body["icon"].as_array().is_some_and(Vec::is_empty));
    eventually(SOON, "nothing is left", async || world.objects().ok()?.is_empty().then_some(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_removed_while_it_is_optimised_stays_removed() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    client.delete_avatar().await?.expect(204)?;
    let _spinoza = world.spawn(&["spinoza"]).await?;
    eventually(SOON, "the late result is done with", async || {
        let sql = "SELECT count(*) FROM bus.inbox WHERE handler = 'autha.pictures' AND done_at IS NOT NULL";
        (world.database().count(sql).await.ok()? == 1).then_some(())
    })
    .await?;
    ensure!(client.me().await?.expect(200)?.body["icon"].as_array().is_some_and(Vec::is_empty));
    let status = client.upload_status(taken.location()?).await?.expect(200)?;
    ensure!(status.body["status"] == "replaced", "{}", status.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_uploads_at_once_add_little_memory() -> Result<()> {
    const UPLOADS: usize = 32;
    // 320 MiB pass through three processes: how long that takes is the machine's business.
    let world = World::builder()
        .env("ORRERY_STORAGE__TIMEOUT", "60s")
        .env("ORRERY_GATEWAY__UPSTREAM_TIMEOUT", "60s")
        .start()
        .await?;
    let front = world.spawn(&["gateway", "autha"]).await?;
    let base = world.client()?;
    // One session each would hash 32 passwords: one person's session serves all.
    let client = base.signed_up(&Person::new()).await?;
    let picture = bytes::Bytes::from(pictures::noise_png(10 * 1024 * 1024)?);
    client.put_avatar(picture.clone(), "image/png").await?.expect(202)?;
    let before = front.memory()?.rss_bytes;
    front.reset_peak()?;
    let uploads = (0..UPLOADS).map(|_| client.put_avatar(picture.clone(), "image/png"));
    let answers = try_join_all(uploads).await?;
    ensure!(
        answers.iter().all(|answer| answer.status == 202),
        "{:?}",
        answers.iter().map(|a| a.status).collect::<Vec<_>>()
    );
    let added = front.memory()?.peak_rss_bytes.saturating_sub(before);
    ensure!(added < 64 * 1024 * 1024, "{} MiB were added", added / 1024 / 1024);
    Ok(())
}
