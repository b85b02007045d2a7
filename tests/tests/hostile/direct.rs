//! Pictures that go straight into the store: what the address that was signed for one lets nobody do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Answer, Client, Person, Service, World, deadline::eventually, pictures};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{Footprint, LONG, refused, unharmed};

/// A world whose store clients can reach.
async fn open(settings: &[(&str, &str)]) -> Result<(World, Service)> {
    let mut builder = World::builder();
    for (key, value) in settings {
        builder = builder.env(key, value);
    }
    let world = builder.start().await?;
    let endpoint = format!("http://{}", world.proxies().storage.addr());
    let service = world.spawn_with(&[], &[("ORRERY_STORAGE__PUBLIC_ENDPOINT", &endpoint)]).await?;
    Ok((world, service))
}

async fn ask(client: &Client, body: &Value) -> Result<Answer> {
    client.send(client.request(Method::POST, "/users/@me/avatar/upload").json(body)).await
}

/// An address for `picture`.
async fn address(client: &Client, picture: &[u8], media_type: &str) -> Result<Value> {
    let body = json!({ "mediaType": media_type, "sizeBytes": picture.len() });
    Ok(ask(client, &body).await?.expect(201)?.body)
}

/// What the store answers to a request by whoever has the address.
async fn put(world: &World, method: Method, url: &str, picture: &[u8], media_type: &str) -> Result<u16> {
    let anybody = world.client()?;
    let request = anybody.request(method, url).header(CONTENT_TYPE, media_type).body(picture.to_vec());
    Ok(anybody.send(request).await?.status)
}

async fn complete(client: &Client, address: &Value) -> Result<Answer> {
    let url = address["completeUrl"].as_str().context("no completeUrl")?;
    client.send(client.request(Method::POST, url)).await
}

fn url(address: &Value) -> Result<&str> {
    address["url"].as_str().context("no url")
}

fn incoming(world: &World) -> Result<usize> {
    Ok(world.objects()?.iter().filter(|key| key.contains("incoming/")).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_is_taken_in_once_and_by_its_owner_alone() -> Result<()> {
    let (world, _service) = open(&[]).await?;
    let ada = world.client()?.signed_up(&Person::new()).await?;
    let eve = world.client()?.signed_up(&Person::new()).await?;
    let picture = pictures::astronaut()?;
    let address = address(&ada, &picture, "image/jpeg").await?;
    for row in world.database().rows("SELECT id::text AS id FROM autha.accounts").await? {
        let id = row["id"].as_str().context("no id")?;
        ensure!(!address.to_string().contains(id), "the address tells an account's id");
    }
    refused("not there yet", &complete(&ada, &address).await?, 404, "not-found", None)?;
    ensure!(put(&world, Method::PUT, url(&address)?, &picture, "image/jpeg").await? == 200);

    refused("somebody else's", &complete(&eve, &address).await?, 404, "not-found", None)?;
    refused("nobody's", &complete(&world.client()?, &address).await?, 401, "invalid-token", None)?;
    ensure!(incoming(&world)? == 1, "it went with somebody else's request");

    let taken = complete(&ada, &address).await?.expect(202)?;
    // The address still works, and changes nothing of what was taken.
    let other = vec![b'x'; picture.len()];
    ensure!(put(&world, Method::PUT, url(&address)?, &other, "image/jpeg").await? == 200);
    let done = ada.wait_upload(taken.location()?, LONG).await?;
    ensure!(done["status"] == "done", "{done}");
    ensure!(ada.me().await?.expect(200)?.body["icon"].as_array().is_some_and(|icons| icons.len() == 3));
    // What lies there now is no picture.
    refused("the second time", &complete(&ada, &address).await?, 422, "invalid-field", Some("body"))?;
    refused("the third time", &complete(&ada, &address).await?, 404, "not-found", None)?;
    ensure!(incoming(&world)? == 0, "{:?}", world.objects()?);
    ensure!(world.database().count("SELECT count(*) FROM autha.uploads").await? == 1);
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);
    unharmed(&world, &Footprint::of(&world).await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_takes_nothing_but_what_was_asked_for() -> Result<()> {
    let (world, _service) = open(&[]).await?;
    let ada = world.client()?.signed_up(&Person::new()).await?;
    let before = Footprint::of(&world).await?;
    let picture = pictures::gradient_png(64, 64)?;
    let address = address(&ada, &picture, "image/png").await?;
    let url = url(&address)?;
    let longer = [&picture[..], b"more"].concat();
    let elsewhere = url.replacen("/incoming/", "/avatars/", 1);
    let longer_life = url.replacen("X-Amz-Expires=900", "X-Amz-Expires=90000", 1);
    ensure!(elsewhere != url && longer_life != url, "{url}");
    let unsigned = url.split('?').next().context("no address")?.to_owned();
    for (what, method, url, body, media_type) in [
        ("too large", Method::PUT, url, &longer, "image/png"),
        ("another type", Method::PUT, url, &picture, "text/html"),
        ("another key", Method::PUT, &elsewhere, &picture, "image/png"),
        ("for longer", Method::PUT, &longer_life, &picture, "image/png"),
        ("unsigned", Method::PUT, &unsigned, &picture, "image/png"),
        ("reading", Method::GET, url, &picture, "image/png"),
        ("removing", Method::DELETE, url, &picture, "image/png"),
    ] {
        let status = put(&world, method, url, body, media_type).await?;
        ensure!((400..500).contains(&status), "{what}: the store answers {status}");
        ensure!(world.objects()?.len() == before.objects, "{what}: {:?}", world.objects()?);
    }
    for (what, body) in [
        ("no size", json!({ "mediaType": "image/png" })),
        ("nothing", json!({ "mediaType": "image/png", "sizeBytes": 0 })),
        ("11 MiB", json!({ "mediaType": "image/png", "sizeBytes": 11 * 1024 * 1024 })),
        ("less than nothing", json!({ "mediaType": "image/png", "sizeBytes": -1 })),
        ("a text", json!({ "mediaType": "image/png", "sizeBytes": "100" })),
    ] {
        refused(what, &ask(&ada, &body).await?, 422, "invalid-field", Some("sizeBytes"))?;
    }
    for media_type in [json!("image/svg+xml"), json!("text/html"), json!(""), json!(5), json!(null)] {
        let body = json!({ "mediaType": media_type, "sizeBytes": 100 });
        refused("a type", &ask(&ada, &body).await?, 422, "invalid-field", Some("mediaType"))?;
    }
    let body = json!({ "mediaType": "image/png", "sizeBytes": 100 });
    refused("nobody", &ask(&world.client()?, &body).await?, 401, "invalid-token", None)?;
    unharmed(&world, &before).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_picture_is_refused_and_removed_when_it_is_taken_in() -> Result<()> {
    let (world, _service) = open(&[]).await?;
    let ada = world.client()?.signed_up(&Person::new()).await?;
    let before = Footprint::of(&world).await?;
    for (what, body, media_type, code) in [
        ("HTML", b"<html><script>alert(1)</script></html>".to_vec(), "image/png", "not_an_image"),
        ("a PNG as JPEG", pictures::gradient_png(64, 64)?, "image/jpeg", "type_mismatch"),
        ("60000 x 60000", pictures::lying_png(60_000, 60_000)?, "image/png", "too_many_pixels"),
    ] {
        let address = address(&ada, &body, media_type).await?;
        ensure!(put(&world, Method::PUT, url(&address)?, &body, media_type).await? == 200, "{what}");
        let answer = complete(&ada, &address).await?;
        refused(what, &answer, 422, "invalid-field", Some("body"))?;
        ensure!(answer.problem()?.field("body")?.code == code, "{what}: {:?}", answer.problem()?);
        refused(what, &complete(&ada, &address).await?, 404, "not-found", None)?;
    }
    unharmed(&world, &before).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_takes_in_is_swept_and_an_address_expires() -> Result<()> {
    let settings = [("ORRERY_AUTHA__UPLOAD_LIFETIME", "3s"), ("ORRERY_AUTHA__SWEEP_EVERY", "500ms")];
    let (world, _service) = open(&settings).await?;
    let ada = world.client()?.signed_up(&Person::new()).await?;
    let before = Footprint::of(&world).await?;
    let picture = pictures::gradient_png(64, 64)?;
    let address = address(&ada, &picture, "image/png").await?;
    ensure!(put(&world, Method::PUT, url(&address)?, &picture, "image/png").await? == 200);
    ensure!(incoming(&world)? == 1);
    eventually(Duration::from_secs(30), "it is swept", async || (incoming(&world).ok()? == 0).then_some(()))
        .await?;
    let status = put(&world, Method::PUT, url(&address)?, &picture, "image/png").await?;
    ensure!(status == 403, "the store answers {status} after the address expired");
    refused("swept", &complete(&ada, &address).await?, 404, "not-found", None)?;
    unharmed(&world, &before).await
}

#[tokio::test]
async fn without_a_public_endpoint_there_are_no_addresses() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let ada = world.client()?.signed_up(&Person::new()).await?;
    let body = json!({ "mediaType": "image/png", "sizeBytes": 100 });
    refused("not set", &ask(&ada, &body).await?, 404, "not-found", None)
}
