//! Signatures, as dkimpy (PyPI, or Debian's python3-dkim) sees them. Without it the test that needs it says so and passes.

use std::process::{Command, Stdio};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::KeySize,
};

use super::*;
use crate::{
    config::Config,
    transport::{OutgoingMail, Transport, message::Packed, samples},
};

/// Verifies what stands in a file by the records in another; prints a line for each signature.
const VERIFY: &str = r#"
import dkim, json, sys
message = open(sys.argv[1], "rb").read()
records = {name: text.encode() for name, text in json.load(open(sys.argv[2]))}
find = lambda name, timeout=5: records.get((name.decode() if isinstance(name, bytes) else name).rstrip("."))
verifier = dkim.DKIM(message)
count = sum(1 for name, _ in verifier.headers if name.lower() == b"dkim-signature")
print(count, *[verifier.verify(idx=at, dnsfunc=find) for at in range(count)])
"#;

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(der))
}

fn keys() -> Vec<DkimKey> {
    let ed25519 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    [("ed", pem(ed25519.as_ref())), ("rsa", pem(rsa.as_ref()))]
        .into_iter()
        .map(|(selector, key)| DkimKey {
            selector: selector.into(),
            domain: None,
            key: Some(key.into()),
            key_file: None,
        })
        .collect()
}

fn signed(mail: &OutgoingMail, keys: &[DkimKey]) -> (Vec<u8>, Vec<(String, String)>) {
    let signers: Vec<_> = keys.iter().map(|key| Signer::new(key, &samples::from()).unwrap()).collect();
    let mut packed = Packed::new(&samples::from(), mail).unwrap();
    for signer in &signers {
        packed.sign(signer, mail.date).unwrap();
    }
    (packed.bytes, signers.iter().map(|signer| signer.record().unwrap()).collect())
}

fn verdict(message: &[u8], records: &[(String, String)]) -> Option<String> {
    let has_dkimpy = Command::new("python3").args(["-c", "import dkim, nacl"]).stderr(Stdio::null()).status();
    if !has_dkimpy.is_ok_and(|status| status.success()) {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mail, list) = (folder.path().join("mail.eml"), folder.path().join("records.json"));
    fs::write(&mail, message).unwrap();
    fs::write(&list, serde_json::to_vec(records).unwrap()).unwrap();
    let output = Command::new("python3").args(["-c", VERIFY]).args([mail, list]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn dkimpy_believes_both_signatures_and_no_changed_message() {
    let keys = keys();
    for (name, locale) in [("ada", "en"), ("zoé  é", "fr"), (".", "de")] {
        let (message, records) = signed(&samples::mail(name, locale), &keys);
        let Some(seen) = verdict(&message, &records) else {
            eprintln!("SKIPPED: python3 has no dkim and nacl: apt-get install python3-dkim python3-nacl");
            return;
        };
        assert_eq!(seen, "2 True True");
        let text = String::from_utf8(message.clone()).unwrap();
        for (from, to) in [
            ("Subject: ", "Subject: x"),
            ("From: Orrery", "From: Other"),
            ("multipart/alternative", "multipart/mixed"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert_eq!(verdict(changed.as_bytes(), &records).as_deref(), Some("2 False False"), "{to}");
        }
        let added = text.replacen("From: Orrery", "From: evil <e@evil.example>\r\nFrom: Orrery", 1);
        assert_eq!(verdict(added.as_bytes(), &records).as_deref(), Some("2 False False"), "a second From");
        // Relays change white space.
        let folded =
            text.replacen("Auto-Submitted: auto-generated", "Auto-Submitted:  \r\n auto-generated ", 1);
        assert_ne!(folded, text);
        assert_eq!(verdict(folded.as_bytes(), &records).as_deref(), Some("2 True True"), "refolded");
    }
}

#[test]
fn a_key_that_cannot_sign_is_told_with_its_selector() {
    for (key, told) in [
        ("", "no private key"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "no private key"),
    ] {
        let config = Config {
            dkim: vec![DkimKey {
                selector: "one".into(),
                domain: None,
                key: Some(key.into()),
                key_file: None,
            }],
            ..Config::default()
        };
        let error = Transport::new(&config).unwrap_err().to_string();
        assert!(error.contains("maily.dkim (one)") && error.contains(told), "{error}");
    }
}

#[test]
fn relaxed_forms_are_those_of_the_documents_example() {
    // RFC 6376, section 3.4.5.
    let head = "A: X\r\nB : Y\t\r\n\tZ  \r\n";
    let relaxed: Vec<_> = fields(head)
        .iter()
        .map(|f| format!("{}:{}", f.name.to_lowercase(), relaxed_value(f.value)))
        .collect();
    assert_eq!(relaxed, ["a:X", "b:Y Z"]);
    assert_eq!(relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n"), b" C\r\nD E\r\n");
    assert_eq!(relaxed_body(b""), b"");
    assert_eq!(relaxed_body(b"\r\n\r\n"), b"");
    assert_eq!(relaxed_body(b"a\r\n\r\nb"), b"a\r\n\r\nb\r\n");
}
