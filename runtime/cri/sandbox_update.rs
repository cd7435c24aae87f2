//! UpdatePodSandboxResources: what a pod may use in all, and what it costs beside its containers.
//!
//! The kubelet's pods lie in groups of the kubelet's own, whose limits it sets itself, before or after this call; there they are
//! recorded. A pod that came without a parent has a group of ours, and its limits are set.

use std::sync::Arc;

use super::error::Error;
use super::request_container;
use crate::cgroup::Change;
use crate::proto::runtime::v1::{UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse};
use crate::sandbox::{PodResources, Sandbox, SandboxEvent, SandboxState};
use crate::state::Runtime;

pub(super) async fn update(
    runtime: Arc<Runtime>,
    request: UpdatePodSandboxResourcesRequest,
) -> Result<UpdatePodSandboxResourcesResponse, Error> {
    let sandbox = runtime.sandboxes.find(&request.pod_sandbox_id).map_err(Error::lookup("sandbox", &request.pod_sandbox_id))?;
    let asked = PodResources {
        resources: request.resources.map(request_container::resources).transpose()?,
        overhead: request.overhead.map(request_container::resources).transpose()?,
    };
    let task = Arc::clone(&runtime);
    runtime.run_to_end(async move { run(&task, &sandbox, &asked).await }).await??;
    Ok(UpdatePodSandboxResourcesResponse {})
}

async fn run(runtime: &Runtime, sandbox: &Arc<Sandbox>, asked: &PodResources) -> Result<(), Error> {
    let _alone = sandbox.operation.write().await;
    let state = sandbox.state();
    if state == SandboxState::Removing {
        return Err(Error::Precondition(format!("sandbox {} is being removed", sandbox.id())));
    }
    let resources = sandbox.resources().updated(asked);
    // A pod that was stopped keeps its group until it is removed; nothing will run in it again.
    let cgroup = runtime.cgroup_of_sandbox(sandbox).filter(|_| state == SandboxState::Ready);
    let change = match cgroup {
        Some(cgroup) => {
            let limits = resources.limits();
            let set = tokio::task::spawn_blocking(move || cgroup.update(&limits));
            set.await.map_err(|_| Error::Unavailable("the daemon is shutting down".to_owned()))??
        }
        None => Change::default(),
    };
    if let Err(error) = runtime.change_sandbox(sandbox, SandboxEvent::Updated(Box::new(resources))) {
        let _ = tokio::task::spawn_blocking(move || change.undo()).await;
        return Err(error.into());
    }
    tracing::info!(sandbox = %sandbox.id(), "the pod's resources are changed");
    Ok(())
}
