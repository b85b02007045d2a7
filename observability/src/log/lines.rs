//! Lines of the log as text and as JSON, with the fields that the configured detail keeps.

use std::fmt::{self, Debug};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::Detail;

/// Fields as text: `name=value`.
pub(super) struct Fields(pub(super) Detail);

/// Fields of a span as a JSON object.
pub(super) struct JsonFields(pub(super) Detail);

/// A line as a JSON object.
pub(super) struct JsonLines(pub(super) Detail);

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = Text { writer, detail: self.0, is_empty: true, result: Ok(()) };
        fields.record(&mut text);
        text.result
    }
}

struct Text<'writer> {
    writer: Writer<'writer>,
    detail: Detail,
    is_empty: bool,
    result: fmt::Result,
}

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.result.is_err() || !self.detail.keeps(field.name()) {
            return;
        }
        let space = if std::mem::take(&mut self.is_empty) { "" } else { " " };
        self.result = match field.name() {
            "message" => write!(self.writer, "{space}{value:?}"),
            name => write!(self.writer, "{space}{name}={value:?}"),
        };
    }
}

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut object = Object { detail: self.0, fields: Map::new() };
        fields.record(&mut object);
        write!(writer, "{}", Value::Object(object.fields))
    }
}

struct Object {
    detail: Detail,
    fields: Map<String, Value>,
}

impl Object {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        if self.detail.keeps(field.name()) {
            self.fields.insert(field.name().to_owned(), value.into());
        }
    }
}

impl Visit for Object {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.insert(field, format!("{value:?}"));
    }
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    fields: Map<String, Value>,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    spans: Vec<Map<String, Value>>,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut object = Object { detail: self.0, fields: Map::new() };
        event.record(&mut object);
        let mut spans = Vec::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let mut about = Map::new();
            if let Some(text) = span.extensions().get::<FormattedFields<N>>() {
                // What was recorded later stands behind what was there before.
                let parts =
                    serde_json::Deserializer::from_str(&text.fields).into_iter::<Map<String, Value>>();
                parts.flatten().for_each(|part| about.extend(part));
            }
            about.insert("name".to_owned(), span.name().into());
            spans.push(about);
        }
        let line = Line {
            timestamp,
            level: event.metadata().level().as_str(),
            fields: object.fields,
            target: event.metadata().target(),
            span: spans.last().cloned(),
            spans,
        };
        writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log() {
        let span = tracing::info_span!("delivery", handler = "maily.email", event = "e-1");
        let _entered = span.entered();
        tracing::info!(event = "e-2", rows = 3, "done");
    }

    fn written(detail: Detail, json: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        if json {
            let layer = layer.event_format(JsonLines(detail)).fmt_fields(JsonFields(detail));
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        } else {
            let layer = layer.with_target(false).fmt_fields(Fields(detail));
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        }
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_have_what_their_detail_keeps() {
        let text = written(Detail::Ids, false);
        assert!(
            text.trim_end()
                .ends_with("INFO delivery{handler=\"maily.email\" event=\"e-1\"}: done event=\"e-2\" rows=3"),
            "{text}"
        );
        let text = written(Detail::System, false);
        assert!(text.trim_end().ends_with("INFO delivery{handler=\"maily.email\"}: done rows=3"), "{text}");
        let text = written(Detail::None, false);
        assert!(text.contains("done") && !text.contains("rows") && !text.contains("maily"), "{text}");
    }

    #[test]
    fn json_has_the_same_fields_and_those_of_spans() {
        let line: Value = serde_json::from_str(&written(Detail::Ids, true)).unwrap();
        assert_eq!(line["fields"], serde_json::json!({ "message": "done", "event": "e-2", "rows": 3 }));
        let span = serde_json::json!({ "name": "delivery", "handler": "maily.email", "event": "e-1" });
        assert_eq!((&line["span"], &line["spans"][0]), (&span, &span));
        assert_eq!(line["level"], "INFO");
        let line: Value = serde_json::from_str(&written(Detail::System, true)).unwrap();
        assert_eq!(line["fields"], serde_json::json!({ "message": "done", "rows": 3 }));
        assert_eq!(line["span"], serde_json::json!({ "name": "delivery", "handler": "maily.email" }));
        let line: Value = serde_json::from_str(&written(Detail::None, true)).unwrap();
        assert_eq!(line["fields"], serde_json::json!({ "message": "done" }));
    }
}
