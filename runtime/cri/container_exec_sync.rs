//! ExecSync: exec probes, lifecycle hooks, `crictl exec --sync`.

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use crate::exec::sync;
use crate::proto::runtime::v1::{ExecSyncRequest, ExecSyncResponse};
use crate::state::Runtime;

pub(super) async fn exec_sync(runtime: Arc<Runtime>, request: ExecSyncRequest) -> Result<ExecSyncResponse, Error> {
    let container = runtime.containers.find(&request.container_id).map_err(Error::lookup("container", &request.container_id))?;
    if request.cmd.is_empty() {
        return Err(Error::Invalid("the request names no command".to_owned()));
    }
    let seconds = u64::try_from(request.timeout)
        .map_err(|_| Error::Invalid(format!("the timeout of {} s is negative", request.timeout)))?;
    // ExecSyncRequest.timeout: 0 is none.
    let limit = (seconds > 0).then(|| Duration::from_secs(seconds));
    let done = sync::run(&runtime, &container, &request.cmd, limit).await?;
    Ok(ExecSyncResponse { stdout: done.stdout, stderr: done.stderr, exit_code: done.exit_code })
}
