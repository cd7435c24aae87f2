//! ReopenContainerLog: the kubelet has renamed the log; the new one is there when this returns, and every line from now on goes
//! to it.

use std::sync::Arc;

use super::error::Error;
use crate::container::{ContainerState, launch};
use crate::proto::runtime::v1::{ReopenContainerLogRequest, ReopenContainerLogResponse};
use crate::state::Runtime;

pub(super) async fn reopen(
    runtime: Arc<Runtime>,
    request: ReopenContainerLogRequest,
) -> Result<ReopenContainerLogResponse, Error> {
    let container = runtime.containers.find(&request.container_id).map_err(Error::lookup("container", &request.container_id))?;
    let state = container.state();
    if state != ContainerState::Running {
        // Nothing would be written to it; the kubelet renames its file back.
        return Err(Error::Precondition(format!("container {} is in state {state:?}, not Running", container.id())));
    }
    let Some(path) = container.metadata().log_path.clone() else {
        return Err(Error::Precondition(format!("container {} has no log", container.id())));
    };
    let guest = container.id().to_string();
    let host = runtime.host.clone();
    let reopened = tokio::task::spawn_blocking(move || -> Result<(), Error> {
        let is_new = !path.exists();
        let log = launch::open_log(&path).map_err(|source| Error::Io { action: "open the log", path: path.clone(), source })?;
        let handed = host.reopen_log(&guest, &log);
        if is_new && !matches!(handed, Ok(true)) {
            // The kubelet renames the old file back.
            let _ = std::fs::remove_file(&path);
        }
        match handed? {
            true => Ok(()),
            false => Err(Error::Precondition(format!("container {guest} has ended"))),
        }
    });
    reopened.await.map_err(|_| Error::Unavailable("the daemon is shutting down".to_owned()))??;
    Ok(ReopenContainerLogResponse {})
}
