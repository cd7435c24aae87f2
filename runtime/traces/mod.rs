//! Traces: a span for each RPC, with its slow steps below it, sent to an OTLP collector where the configuration names one.
//!
//! The spans are those of the `tracing` crate that the log has anyway; [`layer`] turns them into OpenTelemetry's. An RPC joins the
//! trace of its caller by the W3C header `traceparent` ([`join`]), which the kubelet sends.
//!
//! Nobody waits for the collector: an ended span goes into a queue of [`QUEUE`] or is dropped and counted, and one task sends
//! what is in there ([`export`]). Without an endpoint there is no layer, and a span that only traces want is never made.

mod export;
mod rpc;

use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

use crate::config;
pub use rpc::{ended, join};

/// Spans that wait to be sent. One is about half a KiB.
pub const QUEUE: usize = 4096;

/// Whose spans are sent: this program's crates, and not those of the libraries that it sends them with.
const CRATES: [&str; 3] = ["cri_wasm", "images", "streaming"];

/// Whether there is a layer: joining is not tried without.
static ON: OnceLock<()> = OnceLock::new();

/// Traces that are collected, and not sent before [`Traces::export`].
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    spans: mpsc::Receiver<SpanData>,
    resource: Resource,
    endpoint: String,
}

impl Traces {
    /// As configured; `None`: nobody wants any.
    pub fn new(config: &config::Tracing) -> Option<Self> {
        let endpoint = config.endpoint.clone()?;
        let (queue, spans) = export::queue();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let attributes = [
            KeyValue::new("service.name", "cri-wasm"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("host.name", host),
        ];
        let resource = Resource::builder_empty().with_attributes(attributes).build();
        // What the caller has decided about its trace goes for its spans here; the ratio is for calls that are in none.
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.ratio())));
        let provider =
            SdkTracerProvider::builder().with_resource(resource.clone()).with_sampler(sampler).with_span_processor(queue).build();
        let _ = ON.set(());
        Some(Self { provider, spans, resource, endpoint })
    }

    /// What makes spans of those of `tracing`: ours down to DEBUG, with the events that the log has by default.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let filter = FilterFn::new(|metadata| {
            let level = if metadata.is_span() { Level::DEBUG } else { Level::INFO };
            let of = metadata.target().split("::").next().unwrap_or_default();
            CRATES.contains(&of) && *metadata.level() <= level
        });
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("cri-wasm"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter.with_max_level_hint(LevelFilter::DEBUG))
    }
}
