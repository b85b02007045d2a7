//! What a store's answers become, by a store that gives one answer to everything.

use std::io::{Read, Write};

use super::*;

fn objects(endpoint: String) -> Objects {
    let config = Storage { endpoint, secret_key: Some("secret".into()), ..Storage::default() };
    Objects::new(&config).unwrap()
}

/// A store that gives one answer to everything, as bytes, for as long as the test runs.
fn store(status: &'static str, body: String) -> Objects {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => head.extend_from_slice(&buffer[..read]),
                }
            }
            // What is not read when a connection is closed makes it end before its answer.
            let text = String::from_utf8_lossy(&head).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            let begun = text.split("\r\n\r\n").nth(1).unwrap_or_default().len();
            stream.read_exact(&mut vec![0; length.saturating_sub(begun)]).unwrap();
            let is_head = head.starts_with(b"HEAD");
            let body = if is_head { "" } else { body.as_str() };
            let length = body.len();
            // A client that has gone is no fault of the test's.
            let _written = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    objects(format!("http://{address}"))
}

fn fault(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>in its own words</Message></Error>")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_us_is_an_outage_that_says_what_to_set() {
    for (status, code, set) in [
        ("403 Forbidden", "AccessDenied", "storage.access_key"),
        ("403 Forbidden", "InvalidAccessKeyId", "set storage.access_key"),
        ("403 Forbidden", "SignatureDoesNotMatch", "set storage.secret_key"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
        ("404 Not Found", "NoSuchBucket", "make 'orrery' by 'orrery migrate'"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "storage.region"),
    ] {
        let error = store(status, fault(code)).get("avatars/x", 10).await.unwrap_err();
        let told = error.to_string();
        assert!(error.is_outage() && matches!(error, ObjectError::Misconfigured(_)), "{code}: {told}");
        assert!(told.contains(set) && told.contains(code) && told.contains("in its own words"), "{told}");
    }
    let missing = store("404 Not Found", fault("NoSuchKey")).get("avatars/x", 10).await.unwrap_err();
    assert!(matches!(missing, ObjectError::NotFound), "{missing}");
    let wrong = store("400 Bad Request", fault("InvalidArgument")).get("avatars/x", 10).await.unwrap_err();
    assert!(!wrong.is_outage(), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_missing_is_named() {
    let told = store("404 Not Found", String::new()).probe().await.unwrap_err().to_string();
    assert!(told.contains("bucket 'orrery'") || told.contains("'orrery'"), "{told}");
    assert!(!told.contains("object is not there"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_not_removed_is_told_by_its_key() {
    let body = "<?xml version=\"1.0\"?><DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                <Error><Key>a</Key><Code>InternalError</Code><Message>m</Message></Error></DeleteResult>";
    let error = store("200 OK", body.to_owned()).delete(&["a".to_owned(), "b".to_owned()]).await.unwrap_err();
    let ObjectError::Partly(kept) = &error else { panic!("{error}") };
    assert_eq!(kept, &[("a".to_owned(), "InternalError".to_owned())]);
    let all = store("200 OK", "<DeleteResult/>".to_owned());
    assert!(all.delete(&["a".to_owned()]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_told_in_words() {
    let told = objects("http://127.0.0.1:1".to_owned()).probe().await.unwrap_err();
    assert!(told.is_outage(), "{told}");
    let told = told.to_string();
    assert!(told.contains("refused") && !told.contains('{') && !told.contains("DispatchFailure"), "{told}");
}
