//! ListPodSandboxStats and StreamPodSandboxStats: every ten seconds where the kubelet has its gate PodAndContainerStatsFromCRI.

use std::sync::Arc;

use futures_util::Stream;

use super::error::Error;
use super::stream_portions::portions;
use super::{answer_stats, filter};
use crate::proto::runtime::v1::{
    ListPodSandboxStatsRequest, ListPodSandboxStatsResponse, PodSandboxFilter, PodSandboxStateValue, PodSandboxStats,
    PodSandboxStatsFilter, StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse,
};
use crate::sandbox::SandboxState;
use crate::state::Runtime;
use crate::stats;

pub(super) async fn list(
    runtime: Arc<Runtime>,
    request: ListPodSandboxStatsRequest,
) -> Result<ListPodSandboxStatsResponse, Error> {
    Ok(ListPodSandboxStatsResponse { stats: items(&runtime, request.filter).await? })
}

pub(super) async fn stream(
    runtime: Arc<Runtime>,
    request: StreamPodSandboxStatsRequest,
) -> Result<impl Stream<Item = Result<StreamPodSandboxStatsResponse, Error>>, Error> {
    let found = items(&runtime, request.filter).await?;
    Ok(portions(found, |item| item, |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats }))
}

/// The ready pods that match. One that is stopped while it is measured is left out.
async fn items(runtime: &Arc<Runtime>, filter: Option<PodSandboxStatsFilter>) -> Result<Vec<PodSandboxStats>, Error> {
    let filter = filter.unwrap_or_default();
    let filter = PodSandboxFilter {
        id: filter.id,
        label_selector: filter.label_selector,
        state: Some(PodSandboxStateValue { state: crate::proto::runtime::v1::PodSandboxState::SandboxReady.into() }),
    };
    let mut measured = stats::sandboxes(runtime, filter::sandboxes(runtime, Some(filter))).await?;
    measured.retain(|(sandbox, _)| sandbox.state() == SandboxState::Ready);
    Ok(measured.iter().map(|(sandbox, usage)| answer_stats::sandbox(runtime, sandbox, usage)).collect())
}
