//! From ended spans to the collector: a bounded queue, and the task that empties it.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use super::{QUEUE, Traces, rpc};
use crate::metrics::{Reason, metrics};
use crate::store::chain;

/// Spans that are sent together, at most.
const BATCH: usize = 512;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch before that is thrown away.
const DEADLINE: Duration = Duration::from_secs(5);
/// The same for what is left when the daemon ends.
const LAST_DEADLINE: Duration = Duration::from_secs(1);

/// The queue's ends.
pub(super) fn queue() -> (Queue, mpsc::Receiver<SpanData>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Queue(sender), receiver)
}

/// Takes in spans as they end. Never waits.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        rpc::name(&mut span);
        if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = self.0.try_send(span) {
            dropped("queue_full", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn dropped(reason: &'static str, spans: usize) {
    metrics().spans_dropped.get_or_create(&Reason { reason }).inc_by(spans as u64);
}

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("{0:?} is no endpoint")]
    Endpoint(String, #[source] tonic::transport::Error),
    #[error("the exporter cannot be made")]
    Build(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error(transparent)]
    Send(#[from] OTelSdkError),
    #[error("it did not answer within {0:?}")]
    TimedOut(Duration),
}

impl Traces {
    /// Sends what is collected until `stop`, and then what is left, for a moment at most.
    pub async fn export(mut self, stop: CancellationToken) {
        let exporter = match exporter(&self.endpoint) {
            Ok(mut exporter) => {
                exporter.set_resource(&self.resource);
                exporter
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "no traces are sent ([tracing] endpoint)");
                return;
            }
        };
        tracing::info!(endpoint = self.endpoint, "sending traces");
        let mut failing = false;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                more = gather(&mut self.spans, &mut batch) => if !more { return },
                () = stop.cancelled() => {}
            }
            if stop.is_cancelled() {
                break self.finish(&exporter, batch).await;
            }
            let count = batch.len();
            let sent = tokio::select! {
                sent = send(&exporter, batch, DEADLINE) => sent,
                () = async { stop.cancelled().await; tokio::time::sleep(LAST_DEADLINE).await } => Err(ExportError::TimedOut(LAST_DEADLINE)),
            };
            match sent {
                Ok(()) if failing => tracing::info!("the collector takes traces again"),
                Ok(()) => {}
                Err(error) => {
                    dropped("not_taken", count);
                    if !failing {
                        let error = chain(&error);
                        tracing::warn!(endpoint = self.endpoint, %error, "the collector takes no traces; they are thrown away");
                    }
                    failing = true;
                    continue;
                }
            }
            failing = false;
        }
    }

    async fn finish(&mut self, exporter: &SpanExporter, mut batch: Vec<SpanData>) {
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
        }
        let count = batch.len();
        if count > 0 && send(exporter, batch, LAST_DEADLINE).await.is_err() {
            dropped("not_taken", count);
        }
    }
}

/// Waits for a span and then a moment for more. `false`: there will be none.
async fn gather(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) -> bool {
    let Some(first) = spans.recv().await else { return false };
    batch.push(first);
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH {
        match tokio::time::timeout_at(until, spans.recv()).await {
            Ok(Some(span)) => batch.push(span),
            Ok(None) | Err(_) => break,
        }
    }
    true
}

async fn send(exporter: &SpanExporter, batch: Vec<SpanData>, deadline: Duration) -> Result<(), ExportError> {
    let count = batch.len() as u64;
    match tokio::time::timeout(deadline, exporter.export(batch)).await {
        Ok(sent) => {
            sent?;
            metrics().spans_exported.inc_by(count);
            Ok(())
        }
        Err(_) => Err(ExportError::TimedOut(deadline)),
    }
}

/// Connects when the first batch is sent, and again when the connection is gone.
fn exporter(endpoint: &str) -> Result<SpanExporter, ExportError> {
    let failed = |error| ExportError::Endpoint(endpoint.to_owned(), error);
    let channel = Endpoint::from_shared(endpoint.to_owned()).map_err(failed)?.connect_timeout(DEADLINE).connect_lazy();
    Ok(SpanExporter::builder().with_tonic().with_channel(channel).with_timeout(DEADLINE).build()?)
}
