//! UpdateContainerResources: new limits, at once for a guest that runs, at its start for one that does not run yet.
//!
//! Limits first, then the record: whoever reads the new values can rely on them. A daemon that is killed in between leaves limits
//! that the kubelet does not see yet, and so it asks again.

use std::sync::Arc;

use super::error::Error;
use super::request_container;
use crate::cgroup::Change;
use crate::container::{Container, ContainerEvent, ContainerState, Resources, launch};
use crate::proto::runtime::v1::{UpdateContainerResourcesRequest, UpdateContainerResourcesResponse};
use crate::state::Runtime;

pub(super) async fn update(
    runtime: Arc<Runtime>,
    request: UpdateContainerResourcesRequest,
) -> Result<UpdateContainerResourcesResponse, Error> {
    let container = runtime.containers.find(&request.container_id).map_err(Error::lookup("container", &request.container_id))?;
    // Nothing is asked for, as by a client that knows no limits of this node's kind.
    let Some(asked) = request.linux else { return Ok(UpdateContainerResourcesResponse {}) };
    let asked = request_container::resources(asked)?;
    let task = Arc::clone(&runtime);
    runtime.run_to_end(async move { run(&task, &container, &asked).await }).await??;
    Ok(UpdateContainerResourcesResponse {})
}

async fn run(runtime: &Runtime, container: &Arc<Container>, asked: &Resources) -> Result<(), Error> {
    // A start reads what stands here; two updates at once would each take the other's back.
    let _operation = container.operation.lock().await;
    if container.state() == ContainerState::Removing {
        return Err(Error::Precondition(format!("container {} is being removed", container.id())));
    }
    let resources = container.resources().unwrap_or_default().updated(asked);
    runtime.cgroups.check(&resources.limits())?;
    let change =
        if container.state() == ContainerState::Running { set(runtime, container, &resources).await? } else { Change::default() };
    if let Err(error) = runtime.change_container(container, ContainerEvent::Updated(resources)) {
        let _ = tokio::task::spawn_blocking(move || change.undo()).await;
        return Err(error.into());
    }
    // Last, and never an error: it is a preference, and without CAP_SYS_RESOURCE a score cannot be lowered.
    if asked.oom_score_adj != 0 {
        let own = container.status().process;
        let processes = own.into_iter().chain(runtime.execs.of(container.id().as_str()));
        processes.for_each(|process| launch::set_oom_score(container, &process));
    }
    tracing::info!(container = %container.id(), "the container's resources are changed");
    Ok(())
}

async fn set(runtime: &Runtime, container: &Arc<Container>, resources: &Resources) -> Result<Change, Error> {
    let Some(cgroup) = runtime.cgroup_of(container) else { return Ok(Change::default()) };
    let limits = resources.limits();
    let set = tokio::task::spawn_blocking(move || cgroup.update(&limits));
    match set.await.map_err(|_| Error::Unavailable("the daemon is shutting down".to_owned()))? {
        Ok(change) => Ok(change),
        // Its guest has just ended, and its group is gone: there is nothing to limit any more.
        Err(error) if container.state() != ContainerState::Running => {
            tracing::debug!(container = %container.id(), %error, "the guest ended while its limits were changed");
            Ok(Change::default())
        }
        Err(error) => Err(error.into()),
    }
}
