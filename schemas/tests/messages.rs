//! Whether the JSON Schemas of the messages and `asyncapi.yaml` say what the code says. What real services send is checked in `tests`.

use std::{collections::BTreeSet, fs, path::PathBuf};

use orrery_schemas::{
    email::{QUEUE, SendEmail, Template},
    events::{
        AccountCreated, AccountDeleted, AccountErased, AccountUpdated, Changed, EventData, ImageOptimized,
        ImageRejected, ImageUploaded, SessionsEnded, Variant,
    },
    ids::{AccountId, UploadId},
    services::ServiceId,
};
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ACCOUNT: &str = "01957f3e-8c1a-7d2b-9a55-0123456789ab";
const UPLOAD: &str = "01957f3e-9d00-7abc-8def-0123456789ab";

/// One whole event of a type.
struct Sample {
    ty: &'static str,
    event: Value,
    /// Whether the code reads this as the type's data.
    reads: fn(Value) -> bool,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

const AUTHA: ServiceId = ServiceId::new("autha", "com.gravitalia.autha");
const MAILY: ServiceId = ServiceId::new("maily", "com.gravitalia.maily");
const SPINOZA: ServiceId = ServiceId::new("spinoza", "com.gravitalia.spinoza");

fn sample<T: EventData>(source: ServiceId, data: &T) -> Result<Sample, serde_json::Error> {
    let event = json!({
        "specversion": "1.0",
        "id": "01957f3e-0000-7000-8000-000000000001",
        "source": source.source(),
        "type": T::TYPE,
        "time": "2026-11-21T05:06:07.123456Z",
        "subject": ACCOUNT,
        "version": "1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "expirytime": "2026-11-28T05:06:07.123456+00:00",
        "datacontenttype": "application/json",
        "data": serde_json::to_value(data)?,
    });
    Ok(Sample { ty: T::TYPE, event, reads: |data| serde_json::from_value::<T>(data).is_ok() })
}

/// A sample of every type; that none is forgotten is a test of its own.
fn samples() -> Result<Vec<Sample>, Box<dyn std::error::Error>> {
    let account: AccountId = ACCOUNT.parse()?;
    let upload: UploadId = UPLOAD.parse()?;
    let variant = |width: u32| Variant {
        key: format!("avatars/{ACCOUNT}/{UPLOAD}/0123456789abcdef0123456789abcdef-{width}.webp"),
        format: "image/webp".to_owned(),
        width,
        height: width,
        bytes: 4711,
    };
    Ok(vec![
        sample(AUTHA, &AccountCreated { account, version: 1 })?,
        sample(AUTHA, &AccountDeleted { account, version: 3 })?,
        sample(MAILY, &AccountErased { account, holder: "maily".to_owned() })?,
        sample(AUTHA, &SessionsEnded { account, sessions: vec![UPLOAD.parse()?] })?,
        sample(AUTHA, &AccountUpdated { account, version: 2, changed: vec![Changed::Icon] })?,
        sample(
            AUTHA,
            &SendEmail {
                account,
                locale: "en".to_owned(),
                template: Template::Verify,
                to: "v1.0123abcd.c2VhbGVk".to_owned(),
                username: "Ada".to_owned(),
                details: Some("v1.0123abcd.c2VhbGVk".to_owned()),
            },
        )?,
        sample(
            AUTHA,
            &ImageUploaded {
                upload,
                key: format!("avatars/{ACCOUNT}/{UPLOAD}/original.jpg"),
                size_bytes: 4711,
                digest: Some("ab".repeat(32)),
            },
        )?,
        sample(
            SPINOZA,
            &ImageOptimized {
                upload,
                variants: vec![variant(512), variant(64)],
                thumbhash: Some("3f3b0c2704e8".to_owned()),
            },
        )?,
        sample(
            SPINOZA,
            &ImageRejected {
                upload,
                code: "image_corrupt".to_owned(),
                reason: "The PNG file is damaged or incomplete.".to_owned(),
            },
        )?,
    ])
}

/// The types that the code declares, read from its text: a type without a schema must not go unnoticed.
fn types_in_code() -> Result<BTreeSet<String>, std::io::Error> {
    let mut types = BTreeSet::new();
    for entry in fs::read_dir(folder().join("src"))? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(path)?;
        let declared = text.lines().filter_map(|line| line.strip_prefix("event!(")?.split('"').nth(1));
        types.extend(declared.map(str::to_owned));
    }
    Ok(types)
}

fn schema(ty: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let path = folder().join("json").join(format!("{ty}.json"));
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn asyncapi() -> Result<Value, Box<dyn std::error::Error>> {
    Ok(yaml_serde::from_str(&fs::read_to_string(folder().join("asyncapi.yaml"))?)?)
}

fn names<'a>(value: &'a Value, pointer: &str) -> Result<Vec<&'a String>, String> {
    let object = value.pointer(pointer).and_then(Value::as_object);
    Ok(object.ok_or_else(|| format!("no object at {pointer}"))?.keys().collect())
}

/// The pointers of every object of the event whose fields its schema requires, with the fields.
fn required(schema: &Value, sample: &Value, at: &str, found: &mut Vec<(String, String)>) {
    if let Some(fields) = schema.get("required").and_then(Value::as_array) {
        found.extend(fields.iter().filter_map(Value::as_str).map(|field| (at.to_owned(), field.to_owned())));
    }
    for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = sample.get(name) {
            required(schema, value, &format!("{at}/{name}"), found);
        }
    }
    if let (Some(items), Some(first)) = (schema.get("items"), sample.get(0)) {
        required(items, first, &format!("{at}/0"), found);
    }
}

#[test]
fn every_type_has_a_sample_a_schema_and_a_place_in_asyncapi() -> Outcome {
    let code = types_in_code()?;
    assert!(code.len() >= 6, "the code's types were not found: {code:?}");
    let sampled: BTreeSet<_> = samples()?.into_iter().map(|sample| sample.ty.to_owned()).collect();
    assert_eq!(sampled, code);

    let files = fs::read_dir(folder().join("json"))?.map(|entry| entry.map(|entry| entry.file_name()));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let files: BTreeSet<_> = files.iter().map(|name| name.to_string_lossy().replace(".json", "")).collect();
    assert_eq!(files, code);

    let asyncapi = asyncapi()?;
    let mut described = BTreeSet::new();
    for name in names(&asyncapi, "/components/messages")? {
        let message = &asyncapi["components"]["messages"][name];
        let ty = message["name"].as_str().ok_or("a message without a name")?;
        // What third parties send has types and data of their own.
        if message["x-third-party"] == true {
            continue;
        }
        assert_eq!(message["payload"]["$ref"], format!("./json/{ty}.json#/properties/data"), "{name}");
        let channel = &asyncapi["channels"][name];
        let address = channel["address"].as_str().ok_or("a channel without an address")?;
        assert_eq!(address, if ty == SendEmail::TYPE { QUEUE } else { ty }, "{name}");
        assert_eq!(channel["messages"][name]["$ref"], format!("#/components/messages/{name}"), "{name}");
        described.insert(ty.to_owned());
    }
    assert_eq!(described, code);
    assert_eq!(names(&asyncapi, "/channels")?, names(&asyncapi, "/components/messages")?);
    for name in names(&asyncapi, "/operations")? {
        let channel = asyncapi["operations"][name]["channel"]["$ref"].as_str().unwrap_or_default();
        let pointer = channel.strip_prefix('#').ok_or("an operation without a channel")?;
        assert!(asyncapi.pointer(pointer).is_some(), "{name} names {channel}");
    }
    Ok(())
}

#[test]
fn every_sample_is_valid_and_nothing_required_may_lack() -> Outcome {
    for Sample { ty, event, .. } in samples()? {
        let schema = schema(ty)?;
        let validator = jsonschema::options().should_validate_formats(true).build(&schema)?;
        let faults: Vec<_> = validator.iter_errors(&event).map(|fault| fault.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new(), "{ty}");

        let mut fields = Vec::new();
        required(&schema, &event, "", &mut fields);
        assert!(fields.len() > 10, "{ty} requires only {fields:?}");
        for (at, field) in fields {
            let mut event = event.clone();
            let object = event.pointer_mut(&at).and_then(Value::as_object_mut).ok_or("no such object")?;
            assert!(object.remove(&field).is_some(), "{ty}: the sample has no {at}/{field}");
            assert!(!validator.is_valid(&event), "{ty} is valid without {at}/{field}");
        }
    }
    Ok(())
}

#[test]
fn what_is_unknown_or_of_another_kind_is_refused() -> Outcome {
    for Sample { ty, event, .. } in samples()? {
        let validator = jsonschema::options().should_validate_formats(true).build(&schema(ty)?)?;
        for (pointer, value) in [
            ("/extra", json!("x")),
            ("/data/extra", json!("x")),
            ("/type", json!("com.gravitalia.other.v1")),
            ("/source", json!("com.example")),
            ("/id", json!("")),
            ("/subject", json!("ada")),
            ("/time", json!("yesterday")),
            ("/expirytime", json!(1)),
            ("/version", json!(1)),
            ("/version", json!("0")),
            ("/traceparent", json!("00-0-0-0")),
            ("/data", json!(null)),
        ] {
            let (at, field) = pointer.rsplit_once('/').ok_or("no pointer")?;
            let mut event = event.clone();
            let object = event.pointer_mut(at).and_then(Value::as_object_mut).ok_or("no such object")?;
            object.insert(field.to_owned(), value);
            assert!(!validator.is_valid(&event), "{ty} is valid with another {pointer}");
        }
    }
    Ok(())
}

#[test]
fn the_data_may_lack_what_the_code_can_do_without_and_nothing_else() -> Outcome {
    for Sample { ty, event, reads } in samples()? {
        let schema = schema(ty)?;
        let listed =
            schema.pointer("/properties/data/required").and_then(Value::as_array).ok_or("no data")?;
        let listed: BTreeSet<_> = listed.iter().filter_map(Value::as_str).collect();
        let mut needed = BTreeSet::new();
        for field in names(&event, "/data")? {
            let mut data = event["data"].clone();
            data.as_object_mut().ok_or("no object")?.remove(field);
            if !reads(data) {
                needed.insert(field.as_str());
            }
        }
        assert_eq!(listed, needed, "{ty}");
    }
    Ok(())
}

#[test]
fn the_schema_of_the_mail_command_lists_the_mails_there_are() -> Outcome {
    let schema = schema(SendEmail::TYPE)?;
    let listed = schema.pointer("/properties/data/properties/template/enum").and_then(Value::as_array);
    let listed: Vec<_> = listed.ok_or("no list")?.iter().filter_map(Value::as_str).collect();
    assert_eq!(listed, Template::ALL.iter().map(|template| template.name()).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn what_a_store_tells_is_an_upload_without_digest_and_version() -> Outcome {
    let mut samples = samples()?;
    let sample = samples.iter_mut().find(|sample| sample.ty == ImageUploaded::TYPE).ok_or("no sample")?;
    let event = sample.event.as_object_mut().ok_or("no object")?;
    event.insert(
        "id".to_owned(),
        json!("C3D13FE58DE4C810.FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"),
    );
    event.remove("version").ok_or("no version")?;
    event.get_mut("data").and_then(Value::as_object_mut).ok_or("no data")?.remove("digest");
    let validator = jsonschema::options().should_validate_formats(true).build(&schema(sample.ty)?)?;
    for source in ["aws:s3.us-west-2.orrery", "minio:s3..orrery"] {
        sample.event["source"] = json!(source);
        let faults: Vec<_> = validator.iter_errors(&sample.event).map(|fault| fault.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new(), "{source}");
    }
    Ok(())
}
