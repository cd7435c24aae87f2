//! PodSandboxStats: one pod. One that is stopped has only its attributes.

use std::sync::Arc;

use super::answer_stats;
use super::error::Error;
use crate::proto::runtime::v1::{PodSandboxStatsRequest, PodSandboxStatsResponse};
use crate::state::Runtime;
use crate::stats;

pub(super) async fn stats(runtime: Arc<Runtime>, request: PodSandboxStatsRequest) -> Result<PodSandboxStatsResponse, Error> {
    let sandbox = runtime.sandboxes.find(&request.pod_sandbox_id).map_err(Error::lookup("sandbox", &request.pod_sandbox_id))?;
    let measured = stats::sandboxes(&runtime, vec![sandbox]).await?;
    let stats = measured.first().map(|(sandbox, usage)| answer_stats::sandbox(&runtime, sandbox, usage));
    Ok(PodSandboxStatsResponse { stats })
}
