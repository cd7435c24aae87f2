//! The span of an RPC: whose child it is, its name and its attributes, by OpenTelemetry's conventions for RPC.

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SpanData;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::ON;

/// Calls of the ImageService; all others are the RuntimeService's.
const OF_IMAGES: [&str; 6] = ["ListImages", "StreamImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo"];
/// The attribute that makes a span an RPC's.
const METHOD: &str = "rpc.method";

/// The headers of a call.
struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Makes the span of a call part of its caller's trace. A header that cannot be read counts as none.
pub fn join(span: &Span, method: &'static str, headers: &http::HeaderMap) {
    if ON.get().is_none() {
        return;
    }
    let caller = TraceContextPropagator::new().extract(&Headers(headers));
    // It fails only for spans that no layer of traces has.
    let _ = span.set_parent(caller);
    span.set_attribute("rpc.system", "grpc");
    span.set_attribute("rpc.service", service(method));
    span.set_attribute(METHOD, method);
}

/// Notes how a call has ended: the number of its gRPC code, and why.
pub fn ended(span: &Span, code: i32, error: Option<&str>) {
    if ON.get().is_none() {
        return;
    }
    span.set_attribute("rpc.grpc.status_code", i64::from(code));
    if let Some(error) = error {
        span.set_status(Status::error(error.to_owned()));
    }
}

fn service(method: &str) -> &'static str {
    if OF_IMAGES.contains(&method) { "runtime.v1.ImageService" } else { "runtime.v1.RuntimeService" }
}

/// Gives the span of an RPC its conventional name and kind. In the log it is `rpc`, with the method as a field.
pub(super) fn name(span: &mut SpanData) {
    let method = span.attributes.iter().find(|KeyValue { key, .. }| key.as_str() == METHOD);
    if let Some(KeyValue { value: Value::String(method), .. }) = method {
        span.name = format!("{}/{}", service(method.as_str()), method.as_str()).into();
        span.span_kind = SpanKind::Server;
    }
}
