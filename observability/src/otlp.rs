//! The way to the collector: exporters by gRPC or HTTP, on a runtime of their own, so that a collector which hangs holds up nothing else.

use std::{collections::HashMap, path::Path, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
    tonic_types::transport::{Certificate, ClientTlsConfig},
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::{
    config::{Config, Protocol},
    telemetry::TelemetryError,
};

/// Bytes of a collector's answer that are read; they tell how many items it refused.
const ANSWER_BYTES: usize = 64 * 1024;

/// The thread on which connections to the collector live. It ends when this is dropped.
pub(crate) struct ExportThread {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl ExportThread {
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
            // Dropping the sender is the sign.
            let _dropped = runtime.block_on(ended).is_err();
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _end: end })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// The exporters.
pub(crate) struct Exporters<'a> {
    pub(crate) config: &'a Config,
    pub(crate) export_thread: &'a ExportThread,
}

/// Builds one exporter by either protocol.
macro_rules! exporter {
    ($exporters:expr, $ty:ident, $signal:literal) => {{
        let Exporters { config, export_thread } = $exporters;
        // Its channel is spawned where it is built.
        let _entered = export_thread.handle.enter();
        match config.protocol {
            Protocol::Grpc => {
                let builder = $ty::builder()
                    .with_tonic()
                    .with_endpoint(config.endpoint.as_str())
                    .with_timeout(config.timeout);
                match tls(config)? {
                    Some(tls) => builder.with_tls_config(tls).build(),
                    None => builder.build(),
                }
            }
            Protocol::Http => $ty::builder()
                .with_http()
                .with_http_client(Http::new(config, export_thread.handle.clone())?)
                .with_headers(HashMap::new())
                .with_endpoint(config.of_signal($signal))
                .with_timeout(config.timeout)
                .build(),
        }
        .map_err(failed)
    }};
}

impl Exporters<'_> {
    pub(crate) fn spans(&self) -> Result<SpanExporter, TelemetryError> {
        exporter!(self, SpanExporter, "traces")
    }

    pub(crate) fn metrics(&self) -> Result<MetricExporter, TelemetryError> {
        exporter!(self, MetricExporter, "metrics")
    }

    pub(crate) fn logs(&self) -> Result<LogExporter, TelemetryError> {
        exporter!(self, LogExporter, "logs")
    }
}

fn failed(error: ExporterBuildError) -> TelemetryError {
    TelemetryError::Exporter(error.to_string())
}

fn pem(file: &Path) -> Result<Vec<u8>, TelemetryError> {
    std::fs::read(file).map_err(|error| TelemetryError::Authority(file.to_owned(), error.to_string()))
}

fn tls(config: &Config) -> Result<Option<ClientTlsConfig>, TelemetryError> {
    if !config.endpoint.starts_with("https:") {
        return Ok(None);
    }
    let tls = ClientTlsConfig::new();
    Ok(Some(match &config.ca_file {
        Some(file) => tls.ca_certificate(Certificate::from_pem(pem(file)?)),
        None => tls.with_native_roots(),
    }))
}

/// Sends on that thread's runtime, whoever asks.
#[derive(Debug)]
struct Http {
    client: reqwest::Client,
    runtime: Handle,
}

impl Http {
    fn new(config: &Config, runtime: Handle) -> Result<Self, TelemetryError> {
        let told = |error: reqwest::Error| TelemetryError::Exporter(error.to_string());
        let mut builder = reqwest::Client::builder()
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .pool_idle_timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none());
        if let Some(file) = &config.ca_file {
            let authorities = reqwest::Certificate::from_pem_bundle(&pem(file)?).map_err(told)?;
            builder = builder.tls_certs_only(authorities);
        }
        Ok(Self { client: builder.build().map_err(told)?, runtime })
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let answered = self.runtime.spawn(async move {
            let mut answer = client.execute(request).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.extend(answer.headers().clone());
            }
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > ANSWER_BYTES {
                    return Err("the collector's answer is too large".into());
                }
            }
            Ok::<_, HttpError>(response.body(Bytes::from(body))?)
        });
        answered.await?
    }
}
