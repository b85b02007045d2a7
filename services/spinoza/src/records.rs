//! Notifications of an S3 store, in the shape of AWS and of MinIO: from a message's `Records` to our events. They carry no CloudEvents
//! headers. What tells the records apart and how their ids are made follows the aws-s3 adapter of CloudEvents; the type is ours.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use cloudevents::{Event, EventBuilder, EventBuilderV10};
use orrery_bus::{Failure, bridge::Translated};
use orrery_schemas::{
    events::{EventData, ImageUploaded},
    trace::TraceParent,
};
use orrery_seal::sha256;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use crate::keys;

/// Parts of ids and sources that are longer are no store's: they would not fit into a header.
const MAX_TEXT_BYTES: usize = 512;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    event_source: String,
    event_time: DateTime<Utc>,
    #[serde(default)]
    aws_region: String,
    #[serde(default)]
    response_elements: ResponseElements,
    s3: S3,
}

#[derive(Deserialize, Default)]
struct ResponseElements {
    #[serde(rename = "x-amz-request-id", default)]
    request_id: String,
    #[serde(rename = "x-amz-id-2", default)]
    id_2: String,
}

#[derive(Deserialize)]
struct S3 {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    /// As a form encodes it: `+` for a space, `%2F` or `/` for a slash.
    key: String,
    /// Only where something was created.
    #[serde(default)]
    size: u64,
    #[serde(default)]
    sequencer: String,
}

/// A record of an original that came to be.
struct Original {
    record: Record,
    key: String,
}

/// Turns a notification about `bucket` into one event for each original that came to be; what else it tells of is skipped.
pub fn translate(bucket: &str, lifetime: Duration, body: &[u8]) -> Translated {
    let records = match records(body) {
        Ok(records) => records,
        Err(failure) => return Translated { failure: Some(failure), ..Translated::default() },
    };
    let mut turned = Translated::default();
    let mut originals = Vec::new();
    for record in records {
        match original(bucket, record) {
            Ok(Some(original)) => originals.push(original),
            Ok(None) => turned.skipped += 1,
            Err(failure) => turned.failure = Some(failure),
        }
    }
    // One request that makes several objects gives all of them its id.
    let mut requests = HashMap::<String, usize>::new();
    for id in originals.iter().filter_map(|original| request_id(&original.record)) {
        *requests.entry(id).or_default() += 1;
    }
    for original in originals {
        let id = request_id(&original.record)
            .filter(|id| requests.get(id) == Some(&1))
            .unwrap_or_else(|| object_id(&original));
        match event(id, lifetime, original) {
            Ok(event) => turned.events.push(event),
            Err(failure) => turned.failure = Some(failure),
        }
    }
    turned
}

fn records(body: &[u8]) -> Result<Vec<Value>, Failure> {
    let message: Value =
        serde_json::from_slice(body).map_err(|_| Failure::new("the notification is no JSON"))?;
    match message {
        Value::Object(mut message) => match message.remove("Records") {
            Some(Value::Array(records)) => Ok(records),
            // AWS says so once, when notifications are configured.
            None if message.get("Event").is_some_and(|event| event == "s3:TestEvent") => Ok(Vec::new()),
            _ => Err(Failure::new("the notification has no 'Records'")),
        },
        _ => Err(Failure::new("the notification is no JSON object")),
    }
}

fn original(bucket: &str, record: Value) -> Result<Option<Original>, Failure> {
    // serde's messages can quote the input.
    let record: Record =
        serde_json::from_value(record).map_err(|_| Failure::new("a record is not one of S3's"))?;
    // MinIO writes `s3:ObjectCreated:Put`, AWS leaves out the first part.
    let name = record.event_name.strip_prefix("s3:").unwrap_or(&record.event_name);
    if !name.starts_with("ObjectCreated:") || record.s3.bucket.name != bucket {
        return Ok(None);
    }
    let spaced = record.s3.object.key.replace('+', " ");
    let key = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| Failure::new("the key of a record is no UTF-8"))?
        .into_owned();
    if keys::original(&key).is_none() {
        return Ok(None);
    }
    if record.s3.object.size == 0 {
        return Err(Failure::new("a record of a new object has no size"));
    }
    let texts = [
        &record.event_source,
        &record.aws_region,
        &record.response_elements.request_id,
        &record.response_elements.id_2,
        &record.s3.object.sequencer,
    ];
    if texts.iter().any(|text| text.len() > MAX_TEXT_BYTES) {
        return Err(Failure::new(format!("a text of a record is longer than {MAX_TEXT_BYTES} bytes")));
    }
    Ok(Some(Original { record, key }))
}

/// The id that the request had, as the adapter makes it.
fn request_id(record: &Record) -> Option<String> {
    let ResponseElements { request_id, id_2 } = &record.response_elements;
    (!request_id.is_empty() && !id_2.is_empty()).then(|| format!("{request_id}.{id_2}"))
}

/// The same for a record whose request is not told, or made more than this object.
fn object_id(original: &Original) -> String {
    format!("{}.{}.{}", original.record.s3.bucket.name, original.key, original.record.s3.object.sequencer)
}

fn event(id: String, lifetime: Duration, Original { record, key }: Original) -> Result<Event, Failure> {
    let (account, upload) =
        keys::original(&key).ok_or_else(|| Failure::new("the key is not that of an original"))?;
    let expires_at = chrono::Duration::from_std(lifetime)
        .ok()
        .and_then(|lifetime| record.event_time.checked_add_signed(lifetime))
        .ok_or_else(|| Failure::new("the time of a record lies too far ahead"))?;
    let data = ImageUploaded { upload, key, size_bytes: record.s3.object.size, digest: None };
    let data = serde_json::to_value(data).map_err(|error| Failure::of(&error))?;
    EventBuilderV10::new()
        .source(format!("{}.{}.{}", record.event_source, record.aws_region, record.s3.bucket.name))
        .ty(ImageUploaded::TYPE)
        .subject(account.to_string())
        .time(record.event_time)
        .extension("traceparent", trace(&id).to_string())
        .extension("expirytime", expires_at.to_rfc3339())
        .data("application/json", data)
        .id(id)
        .build()
        .map_err(|error| Failure::of(&error))
}

/// The store passes no trace on. One begins here, made of the id, so that a message that is turned twice is one.
fn trace(id: &str) -> TraceParent {
    let digest = sha256(id.as_bytes());
    let number = |bytes: Option<&[u8]>| {
        bytes.unwrap_or_default().iter().fold(0_u128, |number, byte| (number << 8) | u128::from(*byte))
    };
    let parent = u64::try_from(number(digest.get(16..24))).unwrap_or(1);
    TraceParent::from_random(number(digest.get(..16)), parent)
}

#[cfg(test)]
mod tests;
