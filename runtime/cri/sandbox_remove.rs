//! RemovePodSandbox: stops what runs, removes the containers, gives back everything. A sandbox that is not there is fine.

use std::sync::Arc;

use super::error::Error;
use crate::proto::runtime::v1::{RemovePodSandboxRequest, RemovePodSandboxResponse};
use crate::sandbox::release;
use crate::state::Runtime;

pub(super) async fn remove(runtime: Arc<Runtime>, request: RemovePodSandboxRequest) -> Result<RemovePodSandboxResponse, Error> {
    let sandbox = match runtime.sandboxes.find(&request.pod_sandbox_id).map_err(Error::lookup("sandbox", &request.pod_sandbox_id))
    {
        Ok(sandbox) => sandbox,
        Err(error) if error.is_not_found() => return Ok(RemovePodSandboxResponse {}),
        Err(error) => return Err(error),
    };
    let task = Arc::clone(&runtime);
    runtime
        .run_to_end(async move {
            let _operation = sandbox.operation.write().await;
            // Another call may have removed it while this one waited.
            if task.sandboxes.find(sandbox.id().as_str()).is_err() {
                return Ok(());
            }
            release::remove(&task, &sandbox).await
        })
        .await??;
    Ok(RemovePodSandboxResponse {})
}
