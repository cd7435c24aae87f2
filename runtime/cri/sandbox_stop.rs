//! StopPodSandbox: containers are killed, the network is taken down. A sandbox that is stopped, or not there, is fine.

use std::sync::Arc;

use super::error::Error;
use crate::proto::runtime::v1::{StopPodSandboxRequest, StopPodSandboxResponse};
use crate::sandbox::release;
use crate::state::Runtime;

pub(super) async fn stop(runtime: Arc<Runtime>, request: StopPodSandboxRequest) -> Result<StopPodSandboxResponse, Error> {
    let sandbox = match runtime.sandboxes.find(&request.pod_sandbox_id).map_err(Error::lookup("sandbox", &request.pod_sandbox_id))
    {
        Ok(sandbox) => sandbox,
        Err(error) if error.is_not_found() => return Ok(StopPodSandboxResponse {}),
        Err(error) => return Err(error),
    };
    let task = Arc::clone(&runtime);
    runtime
        .run_to_end(async move {
            let _operation = sandbox.operation.write().await;
            release::stop(&task, &sandbox).await
        })
        .await??;
    Ok(StopPodSandboxResponse {})
}
