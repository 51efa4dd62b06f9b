//! Logs to standard error and, when an endpoint is given, traces by OTLP.
//!
//! Spans for traces carry the target [`TRACES`]; the log's filter turns that target off, so that
//! without an endpoint nobody is interested in such a span and making one costs a load and a branch.
//! With one, finished spans go through a bounded queue to a thread of their own: when the collector is slow
//! or away the queue overflows and spans are dropped, and the data path never waits. A collector
//! behind `https` is trusted by the platform's roots (on Linux also those of `SSL_CERT_FILE`).

pub mod context;

use std::time::Duration;

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{
    WithExportConfig as _, WithTonicConfig as _,
    tonic_types::{metadata::MetadataMap, transport::ClientTlsConfig},
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use secrecy::ExposeSecret as _;
use tracing::{Subscriber, warn};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{LevelFilter, ParseError, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    registry::LookupSpan,
};

use crate::config;

/// Target of spans that exist for traces alone.
pub const TRACES: &str = "zen_fabric_traces";

/// What takes the process's spans and events.
type Sink = Box<dyn Subscriber + Send + Sync>;

/// How long one batch may take to reach the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last batch may take when the process ends: one export.
const FLUSH_TIMEOUT: Duration = EXPORT_TIMEOUT;

/// Why logs or traces could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter of log lines is wrong.
    #[error("read the log filter")]
    Filter(#[source] ParseError),
    /// The exporter could not be built.
    #[error("build the OTLP exporter for {endpoint}")]
    Exporter {
        /// Where traces should go.
        endpoint: String,
        /// Why.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// A header for the collector is not `name=value`; the value is not repeated here.
    #[error("a header for the collector is not a list of name=value: entry {0}")]
    Header(usize),
    /// Another subscriber is installed already.
    #[error("install the subscriber")]
    Installed(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Keeps the exporter; hand it to [`Telemetry::flush`] when the process ends.
#[derive(Debug)]
#[must_use = "the last spans are lost unless it is flushed"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs the process's subscriber. Needs a running runtime when there is an endpoint.
    ///
    /// # Errors
    /// What could not be built; nothing is installed then.
    pub fn install(config: &config::Telemetry) -> Result<Self, Error> {
        let (subscriber, telemetry) = Self::build(config, std::io::stderr)?;
        tracing::subscriber::set_global_default(subscriber).map_err(Error::Installed)?;
        Ok(telemetry)
    }

    fn build<W>(config: &config::Telemetry, writer: W) -> Result<(Sink, Self), Error>
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        let filter = EnvFilter::builder()
            .parse(format!("{},{TRACES}=off", config.log_filter))
            .map_err(Error::Filter)?;
        let provider = provider(config)?;
        let subscriber: Sink = match &provider {
            // Without another layer the filter stands before the registry: what it turns off is
            // never made. (A filter of a layer's own only keeps it from that layer.)
            None => Box::new(
                Registry::default()
                    .with(filter)
                    .with(lines(config.log_format, writer)),
            ),
            Some(provider) => {
                let traces = tracing_opentelemetry::layer()
                    .with_tracer(provider.tracer("zen-fabric"))
                    .with_location(false)
                    .with_threads(false)
                    .with_filter(Targets::new().with_target(TRACES, LevelFilter::INFO));
                Box::new(
                    Registry::default()
                        .with(lines(config.log_format, writer).with_filter(filter))
                        .with(traces),
                )
            }
        };
        Ok((subscriber, Self { provider }))
    }

    /// Sends what is still queued, for at most five seconds, or less where less is left.
    pub async fn flush(self, left: Duration) {
        let Some(provider) = self.provider else {
            return;
        };
        // It waits for the exporter's thread, which needs this runtime to send.
        let flushed = tokio::task::spawn_blocking(move || {
            provider.shutdown_with_timeout(left.min(FLUSH_TIMEOUT))
        })
        .await;
        if let Ok(Err(error)) = flushed {
            warn!(%error, "the last spans did not reach the collector");
        }
    }
}

fn lines<S, W>(format: config::LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        config::LogFormat::Json => lines.json().flatten_event(true).boxed(),
        config::LogFormat::Human => lines.with_ansi(false).boxed(),
    }
}

fn provider(config: &config::Telemetry) -> Result<Option<SdkTracerProvider>, Error> {
    let Some(endpoint) = &config.otlp_endpoint else {
        return Ok(None);
    };
    let headers = config
        .otlp_headers
        .as_ref()
        .map_or(Ok(MetadataMap::new()), |headers| {
            metadata(headers.expose_secret())
        })?;
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .with_metadata(headers);
    if is_https(endpoint) {
        let roots = ClientTlsConfig::new().with_native_roots();
        exporter = exporter.with_tls_config(roots);
    }
    let exporter = exporter.build().map_err(|source| Error::Exporter {
        endpoint: endpoint.clone(),
        source,
    })?;
    let resource = Resource::builder()
        .with_service_name("zen-fabric")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
        config.otlp_sample_ratio,
    )));
    Ok(Some(
        SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build(),
    ))
}

fn is_https(endpoint: &str) -> bool {
    let uri = endpoint.parse::<http::Uri>().ok();
    uri.is_some_and(|uri| uri.scheme() == Some(&http::uri::Scheme::HTTPS))
}

/// Reads `name=value,name=value`.
fn metadata(text: &str) -> Result<MetadataMap, Error> {
    let mut headers = http::HeaderMap::new();
    for (index, entry) in text.split(',').enumerate() {
        let header = entry.trim().split_once('=').and_then(|(name, value)| {
            let name = http::HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let mut value = http::HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let (name, value) = header.ok_or(Error::Header(index + 1))?;
        headers.append(name, value);
    }
    Ok(MetadataMap::from_headers(headers))
}

#[cfg(test)]
mod tests;
