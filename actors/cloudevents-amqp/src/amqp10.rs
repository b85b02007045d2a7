//! Application-properties of AMQP 1.0 as RabbitMQ 3's plugin keeps them: it turns them into no headers and headers into none of them,
//! but keeps the encoded section of an AMQP 1.0 sender in one header, and gives an AMQP 1.0 receiver what that header holds. (RabbitMQ
//! 4 translates by itself.) Nothing a peer can put there makes this panic.

use chrono::{DateTime, SecondsFormat};
use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable};

use crate::header;

/// The header with the section.
pub(crate) const HEADER: &str = "x-amqp-1.0-app-properties";

/// The descriptor of the section, as a small ulong (AMQP 1.0, section 3.2.5).
const DESCRIPTOR: u8 = 0x74;

/// The properties that the header's value holds; none when it is no such section.
pub(crate) fn read(value: &AMQPValue) -> Vec<(String, AMQPValue)> {
    let bytes = match value {
        AMQPValue::ByteArray(bytes) => bytes.as_slice(),
        AMQPValue::LongString(bytes) => bytes.as_bytes(),
        _ => return Vec::new(),
    };
    section(bytes).unwrap_or_default()
}

/// The section that says what the attributes among `headers` say; a type that they never have is left out.
pub(crate) fn write(headers: &FieldTable) -> AMQPValue {
    let (mut count, mut map) = (0_u32, Vec::new());
    for (name, value) in headers.inner() {
        if header::attribute_name(name.as_str()).is_none() {
            continue;
        }
        let mut encoded = Vec::new();
        match value {
            AMQPValue::LongString(text) => string(&mut encoded, text.as_bytes()),
            AMQPValue::Boolean(flag) => encoded.push(if *flag { 0x41 } else { 0x42 }),
            AMQPValue::LongInt(number) => {
                encoded.push(0x71);
                encoded.extend(number.to_be_bytes());
            }
            _ => continue,
        }
        string(&mut map, name.as_str().as_bytes());
        map.append(&mut encoded);
        count += 2;
    }
    let mut section = vec![0x00, 0x53, DESCRIPTOR, 0xd1];
    section.extend(length(map.len() + 4));
    section.extend(count.to_be_bytes());
    section.append(&mut map);
    AMQPValue::ByteArray(ByteArray::from(section))
}

fn string(into: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(short) => into.extend([0xa1, short]),
        Err(_) => {
            into.push(0xb1);
            into.extend(length(text.len()));
        }
    }
    into.extend(text);
}

/// What a frame can carry is far below the limit.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

fn section(bytes: &[u8]) -> Option<Vec<(String, AMQPValue)>> {
    let mut rest = Bytes(bytes);
    let small = rest.take(3)? == [0x00, 0x53, DESCRIPTOR];
    if !small {
        return None;
    }
    let entries = match rest.byte()? {
        0xc1 => {
            rest.byte()?;
            u32::from(rest.byte()?)
        }
        0xd1 => {
            rest.word()?;
            rest.word()?
        }
        _ => return None,
    };
    // Not allocated by the count, which a peer may choose.
    let mut properties = Vec::new();
    for _ in 0..entries / 2 {
        let AMQPValue::LongString(name) = rest.value()? else { return None };
        properties.push((name.to_string(), rest.value()?));
    }
    Some(properties)
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A primitive value (AMQP 1.0, section 1.6). One that no attribute can have is an empty list, which is refused by its type.
    fn value(&mut self) -> Option<AMQPValue> {
        let code = self.byte()?;
        Some(match code {
            0x40 => AMQPValue::Void,
            0x41 => AMQPValue::Boolean(true),
            0x42 => AMQPValue::Boolean(false),
            0x56 => AMQPValue::Boolean(self.byte()? != 0),
            0x43 | 0x44 => AMQPValue::LongLongInt(0),
            0x50 | 0x52 | 0x53 => AMQPValue::ShortShortUInt(self.byte()?),
            0x51 | 0x54 | 0x55 => AMQPValue::ShortShortInt(i8::from_be_bytes(self.array()?)),
            0x60 => AMQPValue::ShortUInt(u16::from_be_bytes(self.array()?)),
            0x61 => AMQPValue::ShortInt(i16::from_be_bytes(self.array()?)),
            0x70 => AMQPValue::LongUInt(self.word()?),
            0x71 => AMQPValue::LongInt(i32::from_be_bytes(self.array()?)),
            // Too large for any attribute beyond 2^31, which is checked with the event.
            0x80 => {
                AMQPValue::LongLongInt(i64::try_from(u64::from_be_bytes(self.array()?)).unwrap_or(i64::MAX))
            }
            0x81 => AMQPValue::LongLongInt(i64::from_be_bytes(self.array()?)),
            0x83 => timestamp(i64::from_be_bytes(self.array()?)),
            0xa1 | 0xa3 => self.short()?.into_text(),
            0xb1 | 0xb3 => self.long()?.into_text(),
            0xa0 => AMQPValue::ByteArray(ByteArray::from(self.short()?.0)),
            0xb0 => AMQPValue::ByteArray(ByteArray::from(self.long()?.0)),
            _ => {
                self.skip(code)?;
                AMQPValue::FieldArray(FieldArray::default())
            }
        })
    }

    fn short(&mut self) -> Option<Self> {
        let length = self.byte()?;
        self.take(usize::from(length)).map(Self)
    }

    fn long(&mut self) -> Option<Self> {
        let length = usize::try_from(self.word()?).ok()?;
        self.take(length).map(Self)
    }

    fn into_text(self) -> AMQPValue {
        AMQPValue::LongString(self.0.to_vec().into())
    }

    /// The code's first digit tells how long a value is (AMQP 1.0, section 1.2).
    fn skip(&mut self, code: u8) -> Option<()> {
        match code >> 4 {
            0x4 => Some(()),
            0x5 => self.take(1).map(drop),
            0x6 => self.take(2).map(drop),
            0x7 => self.take(4).map(drop),
            0x8 => self.take(8).map(drop),
            0x9 => self.take(16).map(drop),
            0xa | 0xc | 0xe => self.short().map(drop),
            0xb | 0xd | 0xf => self.long().map(drop),
            _ => None,
        }
    }
}

/// Milliseconds since 1970, as RFC 3339; beyond the calendar it is no time, and refused as one.
fn timestamp(millis: i64) -> AMQPValue {
    let time = DateTime::from_timestamp_millis(millis);
    let text = time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    AMQPValue::LongString(text.into())
}

#[cfg(test)]
mod tests {
    use cloudevents::{AttributesReader, EventBuilder, EventBuilderV10, event::ExtensionValue};

    use super::*;
    use crate::{decode, encode_binary};

    /// The header of a message that rhea 3.0.5 sent to RabbitMQ 3.10.8.
    const SENT: &[u8] = b"\x00St\xd1\x00\x00\x00\xbf\x00\x00\x00\x0e\xa1\x0ecloudEvents:id\xa1\x011\xa1\x17cloudEvents:specversion\
        \xa1\x031.0\xa1\x10cloudEvents:type\xa1\ncom.acme.x\xa1\x12cloudEvents:source\xa1\x05/acme\xa1\x10cloudEvents:time\xa1\x14\
        2026-01-01T00:00:00Z\xa1\rcloudEvents:nR\x05\xa1\rcloudEvents:t\x83\x00\x00\x01\xa1\xfc\xf5b\x11";

    fn message(section: &[u8]) -> lapin::BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert(HEADER.into(), AMQPValue::ByteArray(ByteArray::from(section)));
        lapin::BasicProperties::default().with_headers(headers).with_content_type("application/json".into())
    }

    #[test]
    fn what_an_amqp_1_0_client_sent_is_an_event() {
        let event = decode(&message(SENT), b"{\"a\":1}").unwrap();
        assert_eq!((event.id(), event.source().as_str(), event.ty()), ("1", "/acme", "com.acme.x"));
        assert_eq!(event.time().unwrap().to_rfc3339(), "2026-01-01T00:00:00+00:00");
        assert_eq!(event.extension("n"), Some(&ExtensionValue::from(5)));
        let native = event.extension("t").unwrap().to_string();
        assert!(native.starts_with("2026-") && native.ends_with('Z'), "{native}");
    }

    #[test]
    fn attributes_survive_the_way_there_and_back() {
        let event = EventBuilderV10::new()
            .id("1")
            .source("/x")
            .ty("t")
            .subject("é".repeat(200))
            .extension("flag", true)
            .extension("count", -7)
            .data("application/json", serde_json::json!({"a": 1}))
            .build()
            .unwrap();
        let encoded = encode_binary(&event).unwrap().for_amqp10();
        // With both the headers and the section, and with the section alone, as the plugin passes it on.
        assert_eq!(decode(&encoded.properties, &encoded.body).unwrap(), event);
        let headers = encoded.properties.headers().clone().unwrap();
        let AMQPValue::ByteArray(section) = &headers.inner()[HEADER] else { panic!("no section") };
        assert_eq!(decode(&message(section.as_slice()), &encoded.body).unwrap(), event);
    }

    #[test]
    fn what_is_no_section_holds_no_attribute() {
        for end in 0..SENT.len() {
            let cut = AMQPValue::LongString(SENT[..end].to_vec().into());
            assert!(read(&cut).is_empty(), "{end}");
        }
        for broken in
            [&b""[..], b"\x00St", b"\x00Sr\xc1\x01\x00", b"\x00St\xd1\xff\xff\xff\xff\xff\xff\xff\xff\xa1"]
        {
            assert!(read(&AMQPValue::LongString(broken.to_vec().into())).is_empty(), "{broken:?}");
        }
        assert!(read(&AMQPValue::Void).is_empty());
    }

    #[test]
    fn a_value_of_a_foreign_type_is_skipped_or_refused_by_its_name() {
        let section = |name: &str| {
            let mut map = Vec::new();
            string(&mut map, name.as_bytes());
            map.extend([0x82, 0, 0, 0, 0, 0, 0, 0, 0]);
            string(&mut map, b"cloudEvents_id");
            string(&mut map, b"1");
            let size = u8::try_from(map.len() + 1).unwrap();
            [[0x00, 0x53, DESCRIPTOR, 0xc1, size, 4].as_slice(), map.as_slice()].concat()
        };
        let foreign = read(&AMQPValue::LongString(section("price").into()));
        assert_eq!(foreign[1].0, "cloudEvents_id");
        let error = decode(&message(&section("cloudEvents_price")), b"").unwrap_err();
        assert!(error.to_string().contains("price"), "{error}");
    }
}
