//! PodSandboxStatus.

use std::collections::HashMap;
use std::sync::Arc;

use super::answer_sandbox;
use super::error::Error;
use crate::proto::runtime::v1::{PodSandboxStatusRequest, PodSandboxStatusResponse};
use crate::sandbox::{Sandbox, network};
use crate::state::Runtime;

pub(super) async fn status(runtime: Arc<Runtime>, request: PodSandboxStatusRequest) -> Result<PodSandboxStatusResponse, Error> {
    let sandbox = runtime.sandboxes.find(&request.pod_sandbox_id).map_err(Error::lookup("sandbox", &request.pod_sandbox_id))?;
    Ok(PodSandboxStatusResponse {
        status: Some(answer_sandbox::status(&sandbox)),
        info: if request.verbose { info(&runtime, &sandbox) } else { HashMap::new() },
        // Only clients of the event stream look at these two.
        containers_statuses: Vec::new(),
        timestamp: 0,
    })
}

fn info(runtime: &Runtime, sandbox: &Sandbox) -> HashMap<String, String> {
    let metadata = sandbox.metadata();
    let status = sandbox.status();
    let info = serde_json::json!({
        "state": status.state,
        "held": status.held,
        // A sandbox has no process of its own.
        "pid": 0,
        "networkNamespace": if metadata.config.host_network() { None } else { Some(network::namespace(runtime, metadata)) },
        "cgroupParent": metadata.cgroup_parent,
        "hostname": metadata.hostname,
        "config": metadata.config,
        "resources": sandbox.resources(),
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}
