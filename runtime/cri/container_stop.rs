//! StopContainer: the stop signal, the grace period, then the end by force. A container that does not run, or is not there, is
//! fine.

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use crate::container::stop as guest;
use crate::proto::runtime::v1::{StopContainerRequest, StopContainerResponse};
use crate::state::Runtime;

pub(super) async fn stop(runtime: Arc<Runtime>, request: StopContainerRequest) -> Result<StopContainerResponse, Error> {
    let container =
        match runtime.containers.find(&request.container_id).map_err(Error::lookup("container", &request.container_id)) {
            Ok(container) => container,
            Err(error) if error.is_not_found() => return Ok(StopContainerResponse {}),
            Err(error) => return Err(error),
        };
    // Zero: at once. A negative grace is none either.
    let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
    let task = Arc::clone(&runtime);
    runtime
        .run_to_end(async move { guest::stop(&container, &task.host, task.cgroup_of(&container), grace, &task.stop).await })
        .await??;
    Ok(StopContainerResponse {})
}
