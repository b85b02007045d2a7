//! A receiver of OTLP over HTTP that keeps all it gets, decoded and byte by byte.

use std::{
    collections::BTreeMap,
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{span::SpanKind, status::StatusCode},
};
use prost::Message;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// A span as tests look at it.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: SpanKind,
    pub failed: bool,
    pub state: String,
    pub service: String,
    pub attributes: BTreeMap<String, String>,
    /// The traces that it is linked to.
    pub links: Vec<String>,
}

/// A metric by its name: unit and labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    pub unit: String,
    pub labels: Vec<String>,
}

/// A record of the log.
#[derive(Clone, Debug)]
pub struct Record {
    pub body: String,
    pub trace: String,
    pub severity: String,
    pub service: String,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    metrics: BTreeMap<String, Seen>,
    records: Vec<Record>,
    bytes: Vec<u8>,
    requests: usize,
}

/// How it answers.
#[derive(Clone, Copy)]
pub enum Answers {
    /// At once, and keeps what it got.
    AtOnce,
    /// So long after it got something.
    After(Duration),
    /// With 503, whatever it gets.
    Refusing,
}

/// The receiver; it ends with the test's runtime.
#[derive(Clone)]
pub struct Sink {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    answers: Answers,
}

impl Sink {
    pub async fn start() -> Result<Self> {
        Self::start_that(Answers::AtOnce).await
    }

    /// One that answers like this.
    pub async fn start_that(answers: Answers) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let sink = Self { address: listener.local_addr()?, kept: Arc::default(), answers };
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = serving.clone();
                tokio::spawn(async move { sink.serve(stream).await });
            }
        });
        Ok(sink)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.kept(|kept| kept.spans.clone())
    }

    pub fn metrics(&self) -> BTreeMap<String, Seen> {
        self.kept(|kept| kept.metrics.clone())
    }

    pub fn records(&self) -> Vec<Record> {
        self.kept(|kept| kept.records.clone())
    }

    /// Every byte, as text.
    pub fn bytes(&self) -> String {
        self.kept(|kept| String::from_utf8_lossy(&kept.bytes).into_owned())
    }

    /// How often something came.
    pub fn requests(&self) -> usize {
        self.kept(|kept| kept.requests)
    }

    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn serve(&self, stream: TcpStream) -> Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let path = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
            let (mut length, mut zipped) = (0, false);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await?;
                match line.trim().split_once(':') {
                    Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                        length = value.trim().parse()?;
                    }
                    Some((name, value)) if name.eq_ignore_ascii_case("content-encoding") => {
                        zipped = value.trim() == "gzip";
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            if zipped {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
                body = plain;
            }
            let taken = match self.answers {
                Answers::AtOnce => self.take(&path, &body),
                Answers::After(time) => {
                    tokio::time::sleep(time).await;
                    self.take(&path, &body)
                }
                Answers::Refusing => Ok(()),
            };
            let status = match (self.answers, taken) {
                (Answers::Refusing, _) => "503 Service Unavailable",
                (_, Ok(())) => "200 OK",
                (_, Err(_)) => "400 Bad Request",
            };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
        }
    }

    fn take(&self, path: &str, body: &[u8]) -> Result<()> {
        self.kept(|kept| {
            kept.requests += 1;
            kept.bytes.extend_from_slice(body);
            match path {
                "/v1/traces" => kept.spans.extend(spans(ExportTraceServiceRequest::decode(body)?)),
                "/v1/metrics" => kept.metrics.extend(metrics(ExportMetricsServiceRequest::decode(body)?)),
                "/v1/logs" => kept.records.extend(records(ExportLogsServiceRequest::decode(body)?)),
                other => bail!("nothing is at {other}"),
            }
            Ok(())
        })
        .context("reading what came")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    pairs.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref()))).collect()
}

fn service(resource: Option<&Resource>) -> String {
    let about = resource.map(|resource| attributes(&resource.attributes)).unwrap_or_default();
    about.get("service.name").cloned().unwrap_or_default()
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut all = Vec::new();
    for of in request.resource_spans {
        let service = service(of.resource.as_ref());
        for span in of.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            all.push(Span {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind(),
                failed: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
                state: span.trace_state,
                service: service.clone(),
                attributes: attributes(&span.attributes),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                name: span.name,
            });
        }
    }
    all
}

fn metrics(request: ExportMetricsServiceRequest) -> Vec<(String, Seen)> {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let of = request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
    of.flat_map(|scope| scope.metrics)
        .map(|metric| {
            let points: Vec<Vec<KeyValue>> = match metric.data {
                Some(Data::Gauge(gauge)) => gauge.data_points.into_iter().map(|p| p.attributes).collect(),
                Some(Data::Sum(sum)) => sum.data_points.into_iter().map(|p| p.attributes).collect(),
                Some(Data::Histogram(all)) => all.data_points.into_iter().map(|p| p.attributes).collect(),
                _ => Vec::new(),
            };
            let mut labels: Vec<_> = points.into_iter().flatten().map(|pair| pair.key).collect();
            labels.sort();
            labels.dedup();
            (metric.name, Seen { unit: metric.unit, labels })
        })
        .collect()
}

fn records(request: ExportLogsServiceRequest) -> Vec<Record> {
    let mut all = Vec::new();
    for of in request.resource_logs {
        let service = service(of.resource.as_ref());
        for record in of.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
            all.push(Record {
                body: text(record.body.as_ref()),
                trace: hex(&record.trace_id),
                severity: record.severity_text,
                service: service.clone(),
            });
        }
    }
    all
}
