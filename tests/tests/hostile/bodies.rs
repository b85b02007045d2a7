//! Small bodies that cannot be read, or hold what they must not.

use anyhow::{Context, Result};
use orrery_tests::{Answer, Client, Person, World};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};

use crate::{Footprint, refused, unharmed};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

async fn post(client: &Client, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
    let request = client.request(Method::POST, path).body(body.into());
    let request = if content_type.is_empty() { request } else { request.header(CONTENT_TYPE, content_type) };
    client.send(request).await
}

/// Bodies that are no JSON object at all.
fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let utf16 = |text: &str| -> Vec<u8> {
        [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    let nested = |depth: usize| format!("{{\"id\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    vec![
        ("nothing", Vec::new()),
        ("a space", b" ".to_vec()),
        ("half an object", b"{\"id\": \"ad".to_vec()),
        ("an array", b"[{\"id\":\"ada\"}]".to_vec()),
        ("a text", b"\"ada\"".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"12".to_vec()),
        ("two objects", b"{}{}".to_vec()),
        ("a trailing comma", b"{\"id\":\"ada\",}".to_vec()),
        ("single quotes", b"{'id':'ada'}".to_vec()),
        ("a form", b"id=ada&password=x".to_vec()),
        ("XML", b"<?xml version='1.0'?><id>ada</id>".to_vec()),
        ("UTF-8 with a mark", b"\xef\xbb\xbf{\"id\":\"ada\"}".to_vec()),
        ("invalid UTF-8", b"{\"id\":\"ad\xff\"}".to_vec()),
        ("overlong UTF-8", b"{\"id\":\"ad\xc0\xaf\"}".to_vec()),
        ("UTF-16", utf16("{\"id\":\"ada\"}")),
        ("half a surrogate pair", br#"{"id":"\ud800"}"#.to_vec()),
        ("a bare NUL in a text", b"{\"id\":\"a\0a\"}".to_vec()),
        ("NULs", vec![0; 4096]),
        ("a number beyond all", b"{\"id\":1e999999}".to_vec()),
        ("an array 200 deep", nested(200).into_bytes()),
        ("an array 30000 deep", nested(30_000).into_bytes()),
        ("an array 60000 deep and open", "[".repeat(60_000).into_bytes()),
        ("objects 10000 deep and open", "{\"a\":".repeat(10_000).into_bytes()),
    ]
}

/// Fields of a sign-up that are wrong by themselves, and the fields that the answer must name.
fn wrong_fields() -> Vec<(Value, &'static [&'static str])> {
    let (id, email, password) = ("hostile_ada", "hostile_ada@people.example", "Tr-8e03978e-40d5-43e8");
    let with = |field: &str, value: Value| {
        let mut body = json!({"id": id, "email": email, "password": password, "locale": "en"});
        body[field] = value;
        body
    };
    vec![
        (json!({}), &["id", "email", "password"]),
        (json!({"id": null, "email": null, "password": null}), &["id", "email", "password"]),
        (
            json!({"id": 5, "email": {}, "password": ["x"], "locale": true}),
            &["id", "email", "password", "locale"],
        ),
        (with("id", json!("a")), &["id"]),
        (with("id", json!("")), &["id"]),
        (with("id", json!("x".repeat(65))), &["id"]),
        (with("id", json!("x".repeat(50_000))), &["id"]),
        (with("id", json!("ad\u{0}a")), &["id"]),
        (with("id", json!("../../ada")), &["id"]),
        (with("id", json!("@me")), &["id"]),
        (with("id", json!("Ада")), &["id"]),
        (with("id", json!("ada\u{202e}")), &["id"]),
        (with("id", json!("ada'; DROP TABLE autha.accounts; --")), &["id"]),
        (with("email", json!("ada")), &["email"]),
        (with("email", json!("ada@")), &["email"]),
        (with("email", json!("hostile@people.example\u{0}")), &["email"]),
        (with("email", json!("hostile@people.example\r\nBcc: other@people.example")), &["email"]),
        (with("email", json!("a@people.example, b@people.example")), &["email"]),
        (with("email", json!("Ada <ada@people.example>")), &["email"]),
        (with("email", json!(format!("{}@people.example", "a".repeat(300)))), &["email"]),
        (with("password", json!("Tr-8e0")), &["password"]),
        (with("password", json!("Tr-8e03978e".repeat(12))), &["password"]),
        (with("password", json!("password1")), &["password"]),
        (with("locale", json!("")), &["locale"]),
        (with("locale", json!("../../etc/passwd")), &["locale"]),
        (with("locale", json!("en\u{0}")), &["locale"]),
        (with("locale", json!("e".repeat(5000))), &["locale"]),
        (with("invite", json!(7)), &["invite"]),
    ]
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_and_leave_nothing() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    let before = Footprint::of(&world).await?;
    for path in ["/create", "/login", "/oauth/token"] {
        for (what, body) in unreadable() {
            let answer = post(&client, path, JSON, body).await?;
            refused(&format!("{what} to {path}"), &answer, 400, "malformed", None)?;
        }
        for content_type in [
            "",
            "text/plain",
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/jsonp",
            "json",
            "*/*",
        ] {
            let answer = post(&client, path, content_type, b"{}".to_vec()).await?;
            let what = format!("{content_type:?} to {path}");
            refused(&what, &answer, 415, "unsupported-media-type", Some("Content-Type"))?;
        }
        let large = format!("{{\"id\":\"{}\"}}", "x".repeat(64 * 1024));
        refused(path, &post(&client, path, JSON, large).await?, 413, "too-large", None)?;
        let most = format!("{{\"x\":\"{}\"}}", "x".repeat(64 * 1024 - 8));
        // What lacks is a malformed request of OAuth (RFC 6749, 5.2), and an invalid field elsewhere.
        let (status, slug) = if path == "/oauth/token" { (400, "malformed") } else { (422, "invalid-field") };
        refused("64 KiB", &post(&client, path, JSON, most).await?, status, slug, None)?;
        for body in [r#"{"id":"ada","id":"bob"}"#, r#"{"id":1,"email":"x","\u0069d":2}"#] {
            refused(body, &post(&client, path, JSON, body).await?, 400, "malformed", Some("id"))?;
        }
    }
    // What only two of the three take.
    for path in ["/create", "/login"] {
        refused(
            path,
            &post(&client, path, FORM, "id=ada").await?,
            415,
            "unsupported-media-type",
            Some("Content-Type"),
        )?;
    }
    // A charset changes nothing: JSON is UTF-8.
    let answer = post(&client, "/login", "Application/JSON; charset=utf-16", "{}").await?;
    refused("another charset", &answer, 422, "invalid-field", Some("password"))?;
    unharmed(&world, &before).await
}

#[tokio::test]
async fn fields_that_are_wrong_are_named_and_leave_nothing() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    for secret in ["hostile_ada", "hostile@people.example", "Tr-8e03978e-40d5-43e8"] {
        world.secret(secret);
    }
    let before = Footprint::of(&world).await?;
    for (body, fields) in wrong_fields() {
        let answer = post(&client, "/create", JSON, body.to_string()).await?;
        for field in fields {
            refused(&body.to_string(), &answer, 422, "invalid-field", Some(field))?;
        }
        let named = answer.problem()?.errors.len();
        assert_eq!(named, fields.len(), "{body} names {:?}", answer.problem()?.errors);
    }

    let person = Person::new();
    let body = json!({"id": person.id, "email": person.email, "password": person.password});
    for key in ["", "\t", &"k".repeat(256), "clé"] {
        let request = client.request(Method::POST, "/create").json(&body);
        let key = HeaderValue::from_bytes(key.as_bytes()).context("a header")?;
        let answer = client.send(request.header("Idempotency-Key", key.clone())).await?;
        refused(&format!("key {key:?}"), &answer, 400, "malformed", Some("Idempotency-Key"))?;
    }

    for (path, content_type, body, field) in [
        ("/login", JSON, r#"{"password":"long enough"}"#, "email"),
        ("/login", JSON, r#"{"id":"ada"}"#, "password"),
        ("/login", JSON, r#"{"id":["ada"],"password":"long enough"}"#, "id"),
        ("/login", JSON, r#"{"id":"ada","password":"short"}"#, "password"),
        ("/login", JSON, r#"{"id":"ada","password":12345678}"#, "password"),
        ("/oauth/token", JSON, r#"{"grant_type":"refresh_token"}"#, "refresh_token"),
        ("/oauth/token", JSON, r#"{"grant_type":"password","refresh_token":"x"}"#, "grant_type"),
        ("/oauth/token", JSON, r#"{"grant_type":1,"refresh_token":{}}"#, "refresh_token"),
        ("/oauth/token", FORM, "refresh_token=x", "grant_type"),
        ("/oauth/token", FORM, "", "refresh_token"),
        ("/oauth/token", FORM, "%ff%00&&&==&grant_type=refresh_token", "refresh_token"),
    ] {
        let answer = post(&client, path, content_type, body).await?;
        // OAuth has words of its own (RFC 6749, 5.2).
        let (status, slug) = if path == "/oauth/token" { (400, "malformed") } else { (422, "invalid-field") };
        refused(&format!("{body} to {path}"), &answer, status, slug, Some(field))?;
    }
    let twice =
        post(&client, "/oauth/token", FORM, "grant_type=refresh_token&refresh_token=a&refresh_token=b")
            .await?;
    refused("a form that names a field twice", &twice, 400, "malformed", Some("refresh_token"))?;

    for (path, status, slug, field) in [
        ("/users/a", 404, "not-found", None),
        ("/users/a%00b", 400, "malformed", None),
        ("/users/..%2f..%2fetc", 400, "malformed", None),
        ("/users/%ff%fe", 400, "malformed", None),
        ("/users/nobody_at_all", 404, "not-found", None),
        ("/avatars/nobody_at_all", 404, "not-found", None),
        ("/avatars/nobody_at_all?size=0", 422, "invalid-field", Some("size")),
        ("/avatars/nobody_at_all?size=-1", 422, "invalid-field", Some("size")),
        ("/avatars/nobody_at_all?size=99999999999", 422, "invalid-field", Some("size")),
        ("/avatars/nobody_at_all?size=big", 422, "invalid-field", Some("size")),
        ("/avatars/nobody_at_all?size=1&size=2", 400, "malformed", None),
        ("/avatars/a/c.webp", 404, "not-found", None),
        ("/nowhere", 404, "not-found", None),
        ("/health/actors", 404, "not-found", None),
    ] {
        refused(path, &client.get(path).await?, status, slug, field)?;
    }
    unharmed(&world, &before).await
}
