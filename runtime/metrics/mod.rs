//! What the daemon counts about itself, for Prometheus.
//!
//! A process has one set of counters, as it has one log: [`metrics`] is there from the first line on, whether anybody reads it or
//! not, and costs an atomic addition where something happens. [`serve`] shows it, where the configuration asks for that.
//!
//! Labels have few values that are known beforehand: methods, codes, states, reasons. No label names a pod, an image or a
//! container, so the size of an answer does not depend on what runs; per-pod numbers are the CRI's, which the kubelet serves.

mod counted;
mod lag;
mod names;
mod process;
mod serve;
mod sources;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub use counted::{Counted, Timed};
pub use lag::Lag;
pub use names::{Cni, CniCall, Kind, Method, Metrics, Outcome, Reason, Rpc, State};
pub use serve::serve;
pub use sources::{Sources, image_store};

/// The media type of an answer.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// The counters of this process.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

/// Everything as OpenMetrics text.
///
/// # Errors
/// A metric cannot be written as text.
pub fn text(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(64 << 10);
    encode(&mut text, registry)?;
    Ok(text)
}

/// The registry of the counters and of the process's own numbers.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    metrics().register(registry.sub_registry_with_prefix("cri_wasm"));
    registry.register_collector(Box::new(process::Process));
    registry
}
