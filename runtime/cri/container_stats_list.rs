//! ListContainerStats and StreamContainerStats: every ten seconds with an empty filter, for the kubelet's summary and its evictions.

use std::sync::Arc;

use futures_util::Stream;

use super::error::Error;
use super::stream_portions::portions;
use super::{answer_stats, filter};
use crate::proto::runtime::v1::{
    ContainerFilter, ContainerStats, ContainerStatsFilter, ListContainerStatsRequest, ListContainerStatsResponse,
    StreamContainerStatsRequest, StreamContainerStatsResponse,
};
use crate::state::Runtime;
use crate::stats;

pub(super) async fn list(runtime: Arc<Runtime>, request: ListContainerStatsRequest) -> Result<ListContainerStatsResponse, Error> {
    Ok(ListContainerStatsResponse { stats: items(&runtime, request.filter).await? })
}

pub(super) async fn stream(
    runtime: Arc<Runtime>,
    request: StreamContainerStatsRequest,
) -> Result<impl Stream<Item = Result<StreamContainerStatsResponse, Error>>, Error> {
    let found = items(&runtime, request.filter).await?;
    Ok(portions(found, |item| item, |container_stats| StreamContainerStatsResponse { container_stats }))
}

/// The running containers that match. One that ends while it is measured is left out.
async fn items(runtime: &Arc<Runtime>, filter: Option<ContainerStatsFilter>) -> Result<Vec<ContainerStats>, Error> {
    let filter = filter.map(|filter| ContainerFilter {
        id: filter.id,
        pod_sandbox_id: filter.pod_sandbox_id,
        label_selector: filter.label_selector,
        state: None,
    });
    let measured = stats::running_containers(runtime, filter::containers(runtime, filter)).await?;
    Ok(measured.iter().map(|(container, usage)| answer_stats::container(runtime, container, usage)).collect())
}
