//! From a fuzzer's bytes to a message, in a form that a person can read and write (see `seeds/messages`): the content type, a header on each
//! line as `name=` and a letter for its type and its value, an empty line, the body.

use lapin::{
    BasicProperties,
    types::{AMQPValue, ByteArray, FieldArray, FieldTable, ShortString},
};

/// The message that `input` describes; lines that are no header are left out.
pub fn message(input: &[u8]) -> (BasicProperties, &[u8]) {
    let (content_type, mut rest) = line(input);
    let mut headers = FieldTable::default();
    loop {
        let (header, after) = line(rest);
        rest = after;
        if header.is_empty() {
            break;
        }
        let Some(equals) = header.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (&header[..equals], &header[equals + 1..]);
        if let (Some(name), Some(value)) = (short(name), value.split_first().map(|(kind, text)| value_of(*kind, text))) {
            headers.insert(name, value);
        }
    }
    let mut properties = BasicProperties::default().with_headers(headers);
    if let Some(content_type) = short(content_type) {
        properties = properties.with_content_type(content_type);
    }
    (properties, rest)
}

fn line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}

fn short(text: &[u8]) -> Option<ShortString> {
    ShortString::try_new(std::str::from_utf8(text).ok()?).ok()
}

fn value_of(kind: u8, text: &[u8]) -> AMQPValue {
    let number = || std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
    match kind {
        b's' => short(text).map_or(AMQPValue::Void, AMQPValue::ShortString),
        b'x' => AMQPValue::ByteArray(ByteArray::from(text)),
        b'b' => AMQPValue::Boolean(text == b"1"),
        b'h' => AMQPValue::ShortInt(number() as i16),
        b'c' => AMQPValue::ShortShortUInt(number() as u8),
        b'i' => AMQPValue::LongInt(number() as i32),
        b'u' => AMQPValue::LongUInt(number() as u32),
        b'l' => AMQPValue::LongLongInt(number()),
        b't' => AMQPValue::Timestamp(number() as u64),
        b'd' => AMQPValue::Double(number() as f64),
        b'a' => AMQPValue::FieldArray(FieldArray::default()),
        b'n' => AMQPValue::Void,
        _ => AMQPValue::LongString(text.to_vec().into()),
    }
}
