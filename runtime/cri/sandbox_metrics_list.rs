//! ListPodSandboxMetrics and StreamPodSandboxMetrics: every metric of every ready pod, where the kubelet has its gate PodAndContainerStatsFromCRI.

use std::sync::Arc;

use futures_util::Stream;

use super::answer_metrics;
use super::error::Error;
use super::stream_portions::portions;
use crate::proto::runtime::v1::{
    ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse, PodSandboxMetrics, StreamPodSandboxMetricsRequest,
    StreamPodSandboxMetricsResponse,
};
use crate::sandbox::SandboxState;
use crate::state::Runtime;
use crate::stats;

pub(super) async fn list(runtime: Arc<Runtime>, _: ListPodSandboxMetricsRequest) -> Result<ListPodSandboxMetricsResponse, Error> {
    Ok(ListPodSandboxMetricsResponse { pod_metrics: items(&runtime).await? })
}

pub(super) async fn stream(
    runtime: Arc<Runtime>,
    _: StreamPodSandboxMetricsRequest,
) -> Result<impl Stream<Item = Result<StreamPodSandboxMetricsResponse, Error>>, Error> {
    let message = |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
    Ok(portions(items(&runtime).await?, |item| item, message))
}

/// The metrics of the pods that are ready. One that is stopped while it is measured is left out.
async fn items(runtime: &Arc<Runtime>) -> Result<Vec<PodSandboxMetrics>, Error> {
    let mut sandboxes = runtime.sandboxes.all();
    sandboxes.retain(|sandbox| sandbox.state() == SandboxState::Ready);
    let mut measured = stats::sandboxes_in_detail(runtime, sandboxes).await?;
    measured.pods.retain(|(sandbox, _, _)| sandbox.state() == SandboxState::Ready);
    Ok(measured.pods.iter().map(|pod| answer_metrics::pod(pod, &measured.filesystem)).collect())
}
