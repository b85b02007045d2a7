//! What people change of their accounts, and how profiles are shown and found.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use orrery_tests::World;
use reqwest::Method;
use serde_json::json;

use crate::{KEY, bare, changes, fault, internal_id, mailbox, send, somebody};

#[tokio::test]
async fn a_client_of_upstream_changes_its_profile_and_its_keys() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let patch = async |body| send(&client, Method::PATCH, "/users/@me", body).await;
    let answer = patch(json!({"username": "Ada L.", "summary": "Numbers.\nEngines.", "locale": "fr-ca"}))
        .await?
        .expect(200)?;
    ensure!(answer.body == json!([]), "{}", answer.body);
    let me = client.me().await?.expect(200)?.body;
    ensure!(me["preferredUsername"] == "Ada L." && me["summary"] == "Numbers.\nEngines.", "{me}");
    ensure!(me["id"] == person.id, "{me}");

    let added = patch(json!({"publicKeys": KEY})).await?.expect(200)?.body;
    let id = added[0].as_i64().context("no id")?;
    // Once more changes nothing; many and a removal go together.
    ensure!(patch(json!({"publicKeys": [KEY]})).await?.expect(200)?.body == json!([]));
    let shown = client.user(&person.id).await?.expect(200)?.body["publicKeys"].clone();
    ensure!(shown[0]["id"] == id && shown[0]["owner"] == person.id, "{shown}");
    ensure!(
        shown[0]["publicKeyPem"] == shown[0]["public_key_pem"]
            && shown[0]["createdAt"] == shown[0]["created_at"]
    );
    ensure!(shown[0]["publicKeyPem"].as_str().is_some_and(|pem| pem.trim() == KEY), "{shown}");
    patch(json!({"publicKeys": id})).await?.expect(200)?;
    ensure!(client.me().await?.body["publicKeys"] == json!([]));
    for bad in
        [json!("x"), json!([true]), json!(["-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"])]
    {
        ensure!(patch(json!({"publicKeys": bad})).await?.status == 422);
    }
    // Each change is one version and one event.
    let account = internal_id(&world, &person).await?;
    let (events, version) = changes(&world, &account).await?;
    ensure!((events, version) == (3, 4), "{events} events, version {version}");
    Ok(())
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (mut person, client) = somebody(&world).await?;
    let other = world.client()?.logged_in(&person).await?;
    let patch = async |body| send(&client, Method::PATCH, "/users/@me", body).await;
    let new = "orrery-9f3e-turns-slowly";
    world.secret(new);
    ensure!(patch(json!({"newPassword": new})).await?.status == 422);
    patch(json!({"newPassword": new, "password": "not the right one"})).await?.expect(401)?;
    fault(
        &patch(json!({"newPassword": "password1", "password": person.password})).await?,
        422,
        "newPassword",
        "weak_password",
    )?;
    patch(json!({"newPassword": new, "password": person.password})).await?.expect(200)?;
    client.me().await?.expect(200)?;
    other.me().await?.expect(401)?;
    other.refresh(other.refresh_token().context("no token")?).await?.expect(400)?;
    world.client()?.login(&person).await?.expect(401)?;
    person.password = new.to_owned();
    world.client()?.logged_in(&person).await?;
    Ok(())
}

#[tokio::test]
async fn an_address_changes_when_the_new_mailbox_answers_and_the_old_one_takes_it_back() -> Result<()> {
    let world = mailbox::world(&[]).await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let account = internal_id(&world, &person).await?;
    let new = format!("New_{}", person.email);
    world.secret(&new);
    let patch = json!({"email": new, "password": person.password});
    send(&client, Method::PATCH, "/users/@me", patch).await?.expect(200)?;
    let moved = orrery_tests::Person { email: new.clone(), ..person.clone() };
    client.login(&moved).await?.expect(401)?;
    let (to, _) = mailbox::newest(&world, &account, "confirm_address").await?;
    // As it was typed, not as it is looked up.
    ensure!(to == new, "the mail goes to another address");
    let confirm = json!({"token": mailbox::secret(&world, &account, "confirm_address").await?});
    send(&client, Method::POST, "/address/confirm", confirm.clone()).await?.expect(204)?;
    send(&client, Method::POST, "/address/confirm", confirm).await?.expect(422)?;
    client.login(&moved).await?.expect(200)?;
    client.login(&person).await?.expect(401)?;
    let (to, details) = mailbox::newest(&world, &account, "address_changed").await?;
    ensure!(to == person.email && !details.to_string().contains(&new), "{details}");
    let back = json!({"token": mailbox::secret(&world, &account, "address_changed").await?});
    // Whoever stole the account cannot keep its owner from it by taking the former address, at sign-up or for an account that there is.
    let stranger = world.client()?;
    let squatter = orrery_tests::Person { email: person.email.clone(), ..orrery_tests::Person::new() };
    fault(&stranger.sign_up(&squatter).await?, 409, "email", "taken")?;
    let (other, owner) = somebody(&world).await?;
    let other_account = internal_id(&world, &other).await?;
    let patch = json!({"email": person.email, "password": other.password});
    send(&owner, Method::PATCH, "/users/@me", patch).await?.expect(200)?;
    ensure!(mailbox::count(&world, &other_account, "confirm_address").await? == 0, "it was asked for");
    send(&world.client()?, Method::POST, "/address/take-back", back).await?.expect(204)?;
    client.login(&person).await?.expect(200)?;
    client.me().await?.expect(401)?;
    // Nobody keeps the other one.
    stranger.signed_up(&orrery_tests::Person { email: new, ..orrery_tests::Person::new() }).await?;
    Ok(())
}

#[tokio::test]
async fn an_address_is_confirmed_for_one_account_only_and_also_while_its_key_is_rotated() -> Result<()> {
    let (old, new) = (STANDARD.encode([7; 32]), STANDARD.encode([8; 32]));
    let world = mailbox::world(&[("ORRERY_KEYS__MASTER", &old)]).await?;
    let wanted = format!("wanted_{}", orrery_tests::Person::new().email);
    world.secret(&wanted);
    let service = world.spawn(&["gateway", "autha"]).await?;
    let (mut links, mut people) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (person, client) = somebody(&world).await?;
        let patch = json!({"email": wanted, "password": person.password});
        send(&client, Method::PATCH, "/users/@me", patch).await?.expect(200)?;
        let account = internal_id(&world, &person).await?;
        links.push(mailbox::secret(&world, &account, "confirm_address").await?);
        people.push((person, client));
    }
    let confirm = async |link: &str| {
        send(&world.client()?, Method::POST, "/address/confirm", json!({"token": link})).await
    };
    confirm(&links[0]).await?.expect(204)?;
    drop(service);
    // Its hash lies under the former key now, and a new one would be another.
    let both = [("ORRERY_KEYS__MASTER", new.as_str()), ("ORRERY_KEYS__MASTER_PREVIOUS", old.as_str())];
    let service = world.spawn_with(&["gateway", "autha"], &both).await?;
    fault(&confirm(&links[1]).await?, 409, "email", "taken")?;
    let other = orrery_tests::Person::new();
    let arguments = ["account", "create", other.id.as_str(), wanted.as_str()];
    ensure!(
        !world.run_with(&arguments, &both, crate::SOON).await?.status.success(),
        "a second account has it"
    );
    // What the first one can take back is kept for it under either key.
    let former = people[0].0.email.clone();
    let squatter = orrery_tests::Person { email: former, ..orrery_tests::Person::new() };
    fault(&world.client()?.sign_up(&squatter).await?, 409, "email", "taken")?;
    let done = world.run_with(&["keys", "rotate", "--data"], &both, crate::SOON).await?;
    ensure!(done.status.success(), "{}", done.output);
    drop(service);
    let _service = world.spawn_with(&["gateway", "autha"], &[("ORRERY_KEYS__MASTER", &new)]).await?;
    fault(&world.client()?.sign_up(&squatter).await?, 409, "email", "taken")?;
    let account = internal_id(&world, &people[0].0).await?;
    let back = json!({"token": mailbox::secret(&world, &account, "address_changed").await?});
    send(&world.client()?, Method::POST, "/address/take-back", back).await?.expect(204)?;
    world.client()?.login(&people[0].0).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_profile_is_found_by_webfinger_and_negotiated() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let domain = world.gateway_url().trim_start_matches("http://").to_owned();
    let ask =
        async |resource: String| client.get(&format!("/.well-known/webfinger?resource={resource}")).await;
    let found = ask(format!("acct:{}@{domain}", person.id)).await?.expect(200)?;
    ensure!(found.header("content-type") == Some("application/jrd+json"));
    let url = found.body["aliases"][0].as_str().context("no alias")?.to_owned();
    ensure!(ask(url).await?.expect(200)?.body == found.body);
    ask(format!("acct:{}@elsewhere.example", person.id)).await?.expect(404)?;
    ask(format!("acct:nobody_at_all@{domain}")).await?.expect(404)?;
    fault(&client.get("/.well-known/webfinger").await?, 400, "resource", "missing")?;
    let path = format!("/users/{}", person.id);
    for (accept, wanted) in [
        (
            "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"",
            "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"",
        ),
        ("Application/Activity+JSON", "application/activity+json"),
        ("application/activity+json;q=0", "application/json"),
    ] {
        let answer =
            client.send(client.request(Method::GET, &path).header("accept", accept)).await?.expect(200)?;
        ensure!(
            answer.header("content-type") == Some(wanted),
            "{accept}: {:?}",
            answer.header("content-type")
        );
    }
    let two = client
        .request(Method::GET, &path)
        .header("accept", "text/html")
        .header("accept", "application/activity+json");
    ensure!(client.send(two).await?.body["id"].as_str().is_some_and(|id| id.starts_with("http")));
    let discovery = bare(&client, Method::GET, "/.well-known/openid-configuration").await?.expect(200)?.body;
    ensure!(
        discovery["issuer"] == world.gateway_url() && discovery["authorization_endpoint"].is_null(),
        "{discovery}"
    );
    Ok(())
}

#[tokio::test]
async fn every_url_that_leaves_has_the_path_of_the_public_address() -> Result<()> {
    let port = orrery_tests::ports::Port::reserve()?;
    let (listen, base) = (port.address().to_string(), format!("http://{}/accounts", port.address()));
    let world = World::builder()
        .env("ORRERY_AUTHA__PUBLIC_URL", &base)
        .env("ORRERY_GATEWAY__BASE_PATH", "/accounts")
        .env("ORRERY_GATEWAY__LISTEN", &listen)
        .start()
        .await?;
    let _service = world.spawn(&[]).await?;
    let person = orrery_tests::Person::new();
    let client = world.client_of(&base)?.signed_up(&person).await?;
    let picture = orrery_tests::pictures::gradient_png(64, 64)?;
    let taken = client.put_avatar(picture, "image/png").await?.expect(202)?;
    let status = taken.location()?.to_owned();
    ensure!(status.starts_with(&format!("{base}/users/@me/avatar/uploads/")), "{status}");
    client.wait_upload(&status, crate::SOON).await?;
    let current = client.get(&format!("/avatars/{}", person.id)).await?.expect(302)?;
    let variant = current.location()?.to_owned();
    ensure!(variant.starts_with(&format!("{base}/avatars/")), "{variant}");
    client.get(&variant).await?.expect(200)?;
    let me = client.me().await?.expect(200)?.body;
    ensure!(me["url"] == format!("{base}/users/{}", person.id.to_lowercase()), "{}", me["url"]);
    ensure!(me["icon"][0]["url"].as_str().is_some_and(|url| url.starts_with(&base)), "{}", me["icon"]);
    let discovery = client.get("/.well-known/openid-configuration").await?.expect(200)?.body;
    ensure!(
        discovery["issuer"] == base && discovery["jwks_uri"] == format!("{base}/.well-known/jwks.json"),
        "{discovery}"
    );
    Ok(())
}

#[tokio::test]
async fn a_picture_that_is_not_there_is_no_unchanged_one() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let (person, client) = somebody(&world).await?;
    let taken =
        client.put_avatar(orrery_tests::pictures::gradient_png(64, 64)?, "image/png").await?.expect(202)?;
    client.wait_upload(taken.location()?, crate::SOON).await?;
    let current = client.get(&format!("/avatars/{}", person.id)).await?.expect(302)?;
    let there = current.location()?.to_owned();
    let whatever =
        async |path: &str| client.send(client.request(Method::GET, path).header("if-none-match", "*")).await;
    whatever(&there).await?.expect(304)?;
    for path in
        [format!("/avatars/{}/64.webp", orrery_tests::fresh::uuid()), there.replace(".webp", "7.webp")]
    {
        let answer = whatever(&path).await?.expect(404)?;
        ensure!(!answer.header("cache-control").unwrap_or_default().contains("immutable"), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_scope_that_is_not_there_is_told() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (_, client) = somebody(&world).await?;
    let answer = bare(&client, Method::GET, "/admin/accounts").await?.expect(403)?;
    let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
    ensure!(
        challenge.contains(r#"error="insufficient_scope""#) && challenge.contains("admin"),
        "{challenge}"
    );
    let failed = world.client()?.login(&orrery_tests::Person::new()).await?.expect(401)?;
    ensure!(failed.header("www-authenticate").is_none());
    let bare_ = bare(&world.client()?, Method::GET, "/users/@me").await?.expect(401)?;
    ensure!(bare_.header("www-authenticate") == Some("Bearer"));
    Ok(())
}
