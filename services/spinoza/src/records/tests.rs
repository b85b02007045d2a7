//! Records as AWS and MinIO send them, and as an attacker would.

use cloudevents::{AttributesReader, Data};
use orrery_schemas::ids::UploadId;
use serde_json::json;
use uuid::Uuid;

use super::*;

const BUCKET: &str = "orrery";
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
const ACCOUNT: Uuid = Uuid::from_u128(0x0195_7f3e_8c1a_7d2b_9a55_0123_4567_89ab);
const UPLOAD: Uuid = Uuid::from_u128(0x0195_7f3e_9d00_7abc_8def_0123_4567_89ab);

fn key() -> String {
    format!("avatars/{ACCOUNT}/{UPLOAD}/original.jpg")
}

/// AWS's documented example, with our bucket and key (Amazon S3 User Guide, "Event message structure").
fn aws() -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-west-2",
        "eventTime": "1970-01-01T00:00:00.000Z", "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {
            "x-amz-request-id": "C3D13FE58DE4C810",
            "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"
        },
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "testConfigRule",
            "bucket": {
                "name": BUCKET, "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": "arn:aws:s3:::orrery"
            },
            "object": {
                "key": key(), "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko", "sequencer": "0055AED6DCD90281E5"
            }
        }
    })
}

/// A message as MinIO's AMQP target sends it: slashes are escaped, the region is empty, the name has its prefix.
fn minio() -> Value {
    json!({
        "EventName": "s3:ObjectCreated:Put",
        "Key": format!("{BUCKET}/{}", key()),
        "Records": [{
            "eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "",
            "eventTime": "2026-11-21T07:31:09.123Z", "eventName": "s3:ObjectCreated:Put",
            "userIdentity": {"principalId": "orrery"},
            "requestParameters": {"principalId": "orrery", "region": "", "sourceIPAddress": "10.0.0.7"},
            "responseElements": {
                "content-length": "0", "x-amz-request-id": "187A0C2F7E5B3D10",
                "x-amz-id-2": "dd9025bab4ad464b049177c95eb6ebf374d3b3fd1af9251148b658df7ac2e3e8",
                "x-minio-deployment-id": "0170a4cc-dca6-4e72-86f1-c0cc760dff7f",
                "x-minio-origin-endpoint": "http://172.17.0.2:9000"
            },
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "Config",
                "bucket": {
                    "name": BUCKET, "ownerIdentity": {"principalId": "orrery"}, "arn": "arn:aws:s3:::orrery"
                },
                "object": {
                    "key": key().replace('/', "%2F"), "size": 224_662,
                    "eTag": "5fc7298143efe1276d39a3466d4e255f", "contentType": "image/jpeg",
                    "userMetadata": {"content-type": "image/jpeg"}, "sequencer": "187A0C2F7E8C1A55"
                }
            },
            "source": {"host": "10.0.0.7", "port": "", "userAgent": "aws-sdk-rust"}
        }]
    })
}

fn turned(message: &Value) -> Translated {
    translate(BUCKET, LIFETIME, message.to_string().as_bytes())
}

fn of_records(records: &[Value]) -> Translated {
    turned(&json!({ "Records": records }))
}

/// AWS's record with the value at `pointer` replaced, or taken away by null.
fn with(pointer: &str, value: Value) -> Value {
    let mut record = aws();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let object = record.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => object.remove(field),
        value => object.insert(field.to_owned(), value),
    };
    record
}

fn data(event: &Event) -> ImageUploaded {
    let Some(Data::Json(value)) = event.data() else { panic!("no JSON: {event:?}") };
    serde_json::from_value(value.clone()).unwrap()
}

fn extension(event: &Event, name: &str) -> String {
    event.extension(name).unwrap().to_string()
}

fn only(turned: Translated) -> Event {
    assert_eq!((turned.failure, turned.skipped), (None, 0));
    let [event] = <[Event; 1]>::try_from(turned.events).unwrap();
    cloudevents_amqp::validate(&event).unwrap();
    event
}

#[test]
fn a_record_of_aws_is_one_event_of_ours() {
    let event = only(of_records(&[aws()]));
    assert_eq!(
        event.id(),
        "C3D13FE58DE4C810.FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"
    );
    assert_eq!(event.source(), "aws:s3.us-west-2.orrery");
    assert_eq!((event.ty(), event.subject()), (ImageUploaded::TYPE, Some(ACCOUNT.to_string().as_str())));
    assert_eq!(event.time().map(DateTime::timestamp), Some(0));
    assert_eq!(extension(&event, "expirytime"), "1970-01-08T00:00:00+00:00");
    let expected = ImageUploaded { upload: UploadId(UPLOAD), key: key(), size_bytes: 1024, digest: None };
    assert_eq!(data(&event), expected);
}

#[test]
fn a_record_of_minio_is_one_event_of_ours() {
    let event = only(turned(&minio()));
    assert_eq!(
        event.id(),
        "187A0C2F7E5B3D10.dd9025bab4ad464b049177c95eb6ebf374d3b3fd1af9251148b658df7ac2e3e8"
    );
    assert_eq!(event.source(), "minio:s3..orrery");
    assert_eq!((data(&event).key, data(&event).size_bytes), (key(), 224_662));
}

#[test]
fn the_same_message_gives_the_same_events() {
    assert_eq!(only(turned(&minio())), only(turned(&minio())));
    assert!(extension(&only(turned(&minio())), "traceparent").parse::<TraceParent>().is_ok());
}

#[test]
fn without_its_requests_id_a_record_is_named_by_its_object() {
    let expected = format!("orrery.{}.0055AED6DCD90281E5", key());
    for record in [
        with("/responseElements", Value::Null),
        with("/responseElements/x-amz-id-2", Value::Null),
        with("/responseElements/x-amz-request-id", json!("")),
    ] {
        assert_eq!(only(of_records(&[record])).id(), expected);
    }
}

#[test]
fn several_records_are_several_events() {
    let other = key().replace(&UPLOAD.to_string(), &Uuid::from_u128(7).to_string());
    let mut second = with("/s3/object/key", json!(other));
    second["responseElements"]["x-amz-request-id"] = json!("0000000000000001");
    let apart = of_records(&[aws(), second]);
    assert!(apart.events.iter().all(|event| event.id().contains(".FMyUV")), "{:?}", apart.events);

    // One request that made both: its id would name two events.
    let together = of_records(&[aws(), with("/s3/object/key", json!(other))]);
    let ids: Vec<_> = together.events.iter().map(Event::id).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn keys_are_read_as_a_form_encodes_them() {
    let encoded = key().replace('-', "%2d").replace('/', "%2F");
    assert_eq!(data(&only(of_records(&[with("/s3/object/key", json!(encoded))]))).key, key());
    // A plus is a space, so this is another key; an escaped plus is one, and no key of ours either.
    for foreign in ["original+.jpg", "original%2B.jpg", "my+holiday.jpg"] {
        let record = with("/s3/object/key", json!(key().replace("original.jpg", foreign)));
        let turned = of_records(&[record]);
        assert_eq!((turned.events.len(), turned.skipped, turned.failure), (0, 1, None), "{foreign}");
    }
}

#[test]
fn what_concerns_nobody_is_skipped() {
    let variant = key().replace("original.jpg", "0123456789abcdef0123456789abcdef-512.webp");
    for record in [
        with("/s3/object/key", json!(variant)),
        with("/s3/object/key", json!("backups/original.jpg")),
        with("/s3/bucket/name", json!("other")),
        with("/eventName", json!("ObjectRemoved:Delete")),
        with("/eventName", json!("s3:ObjectRemoved:DeleteMarkerCreated")),
        with("/eventName", json!("s3:ObjectAccessed:Get")),
    ] {
        let turned = of_records(&[record]);
        assert_eq!((turned.events.len(), turned.skipped, turned.failure), (0, 1, None));
    }
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2014-10-13T15:57:02.089Z",
                      "Bucket": BUCKET, "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE"});
    let turned = turned(&test);
    assert_eq!((turned.events.len(), turned.failure), (0, None));
}

#[test]
fn a_removal_without_a_size_is_no_fault() {
    let mut record = with("/s3/object/size", Value::Null);
    record["eventName"] = json!("ObjectRemoved:Delete");
    assert_eq!(of_records(&[record]).failure, None);
}

#[test]
fn what_cannot_be_turned_is_told_and_holds_nothing_else_up() {
    for record in [
        json!(null),
        json!("avatars"),
        json!({}),
        with("/s3", json!([])),
        with("/s3/object/key", json!(7)),
        with("/s3/object/key", json!("%ff%fe")),
        with("/s3/object/size", json!(-1)),
        with("/s3/object/size", Value::Null),
        with("/eventTime", json!("yesterday")),
        with("/eventTime", json!("+262142-12-31T23:59:59Z")),
        with("/responseElements/x-amz-request-id", json!("x".repeat(100_000))),
        with("/awsRegion", json!({"$ne": 1})),
    ] {
        let turned = of_records(&[record.clone(), aws()]);
        assert_eq!(turned.events.len(), 1, "{record}");
        let failure = turned.failure.unwrap();
        assert!(failure.reason.len() < 100 && failure.causes.is_empty(), "{failure:?}");
    }
}

#[test]
fn a_message_that_is_no_notification_is_told() {
    for body in [&b""[..], b"\xff", b"{", b"null", b"[]", b"{}", b"{\"Records\":{}}", b"{\"Records\":null}"] {
        assert!(translate(BUCKET, LIFETIME, body).failure.is_some(), "{body:?}");
    }
    let deep = format!("{{\"Records\":{}", "[".repeat(1_000_000));
    assert!(translate(BUCKET, LIFETIME, deep.as_bytes()).failure.is_some());
}
