//! RemoveContainer: in any state; a running guest is killed. A container that is not there is fine.

use std::sync::Arc;

use super::error::Error;
use crate::container::release;
use crate::proto::runtime::v1::{RemoveContainerRequest, RemoveContainerResponse};
use crate::state::Runtime;

pub(super) async fn remove(runtime: Arc<Runtime>, request: RemoveContainerRequest) -> Result<RemoveContainerResponse, Error> {
    let container =
        match runtime.containers.find(&request.container_id).map_err(Error::lookup("container", &request.container_id)) {
            Ok(container) => container,
            Err(error) if error.is_not_found() => return Ok(RemoveContainerResponse {}),
            Err(error) => return Err(error),
        };
    let task = Arc::clone(&runtime);
    runtime.run_to_end(async move { release::remove(&task, &container).await }).await??;
    Ok(RemoveContainerResponse {})
}
