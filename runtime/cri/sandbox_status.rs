//! PodSandboxStatus.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::Error;
use super::{answer_container, answer_sandbox};
use crate::network::netns;
use crate::proto::runtime::v1::{PodSandboxStatusRequest, PodSandboxStatusResponse};
use crate::sandbox::{Sandbox, SandboxStatus, network};
use crate::state::Runtime;

pub(super) async fn status(runtime: Arc<Runtime>, request: PodSandboxStatusRequest) -> Result<PodSandboxStatusResponse, Error> {
    let sandbox = runtime.sandboxes.find(&request.pod_sandbox_id).map_err(Error::lookup("sandbox", &request.pod_sandbox_id))?;
    // Before anything is looked at: whoever follows events takes what was told later for newer.
    let timestamp = wasm_host::protocol::now();
    Ok(PodSandboxStatusResponse {
        status: Some(answer_sandbox::status(&sandbox, present(&runtime, &sandbox))),
        info: if request.verbose { info(&runtime, &sandbox) } else { HashMap::new() },
        containers_statuses: runtime
            .containers_of(&sandbox)
            .iter()
            .map(|container| answer_container::status(container))
            .collect(),
        timestamp,
    })
}

/// A pod whose network namespace was removed behind our back has no address any more: the kubelet gives such a pod a new sandbox.
fn present(runtime: &Runtime, sandbox: &Sandbox) -> SandboxStatus {
    let mut status = sandbox.status();
    if status.held.netns && !netns::is_pinned(&network::namespace(runtime, sandbox.metadata())) {
        status.addresses = None;
    }
    status
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
