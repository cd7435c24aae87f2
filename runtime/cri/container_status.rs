//! ContainerStatus.

use std::collections::HashMap;
use std::sync::Arc;

use super::answer_container;
use super::error::Error;
use crate::container::Container;
use crate::proto::runtime::v1::{ContainerStatusRequest, ContainerStatusResponse};
use crate::state::Runtime;

pub(super) async fn status(runtime: Arc<Runtime>, request: ContainerStatusRequest) -> Result<ContainerStatusResponse, Error> {
    let container = runtime.containers.find(&request.container_id).map_err(Error::lookup("container", &request.container_id))?;
    Ok(ContainerStatusResponse {
        status: Some(answer_container::status(&container)),
        info: if request.verbose { info(&runtime, &container) } else { HashMap::new() },
    })
}

fn info(runtime: &Runtime, container: &Container) -> HashMap<String, String> {
    let metadata = container.metadata();
    let status = container.status();
    let info = serde_json::json!({
        "state": status.state,
        "sandboxID": metadata.sandbox,
        "pid": status.process.as_ref().map_or(0, |process| process.pid),
        "imageID": metadata.image_id,
        "cgroup": metadata.cgroup,
        // Where clients on this node write what the guest reads.
        "stdin": container.stdin_fifo(&runtime.config.state),
        // `command`, `http`, `reactor` or `library`, where its code is known.
        "world": runtime.images.code_report(&metadata.process.module_digest).map(|report| report.world),
        "process": metadata.process,
        "mounts": metadata.mounts,
        "config": metadata.config,
        "resources": container.resources(),
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}
