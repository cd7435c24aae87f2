//! ContainerStats: one container, in whatever state. One that does not run has only its writable layer.

use std::sync::Arc;

use super::answer_stats;
use super::error::Error;
use crate::proto::runtime::v1::{ContainerStatsRequest, ContainerStatsResponse};
use crate::state::Runtime;
use crate::stats;

pub(super) async fn stats(runtime: Arc<Runtime>, request: ContainerStatsRequest) -> Result<ContainerStatsResponse, Error> {
    let container = runtime.containers.find(&request.container_id).map_err(Error::lookup("container", &request.container_id))?;
    let measured = stats::containers(&runtime, vec![container]).await?;
    let stats = measured.first().map(|(container, usage)| answer_stats::container(&runtime, container, usage));
    Ok(ContainerStatsResponse { stats })
}
