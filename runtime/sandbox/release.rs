//! Stops a sandbox, gives back what it holds, and removes it.
//!
//! What is held stands in the record, is given back in the reverse of the order in which it was acquired, and is taken out of the
//! record as it goes. So whatever is interrupted is continued, and what could not be given back stays listed.

use std::time::Duration;

use futures_util::future::join_all;
use tracing::Instrument;

use super::files::{self, FileError};
use super::init::{self, InitError};
use super::{ChangeError, Held, Sandbox, SandboxEvent, SandboxState, ipc, network, ports, userns};
use crate::cgroup::{Cgroup, CgroupError};
use crate::container::release::RemoveError as ContainerRemoveError;
use crate::container::stop::{self, StopError};
use crate::network::host_port::HostPortError;
use crate::network::{NetworkError, netns, netns::NetnsError};
use crate::pinned::{self, PinError};
use crate::state::Runtime;
use crate::store::{StoreError, Table};

/// Why a sandbox is still there.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// One of its guests does not end.
    #[error("cannot stop container {id}")]
    Container {
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: StopError,
    },
    /// One of its containers stays.
    #[error("cannot remove container {id}")]
    ContainerStays {
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: ContainerRemoveError,
    },
    /// Its host ports are still forwarded.
    #[error("cannot end the forwarding of the pod's host ports")]
    Ports(#[from] HostPortError),
    /// Its network could not be taken down.
    #[error("cannot take down the pod's network")]
    Network(#[from] NetworkError),
    /// Its network namespace stays.
    #[error("cannot remove the pod's network namespace")]
    Namespace(#[from] NetnsError),
    /// Another of its namespaces stays.
    #[error("cannot remove a namespace of the pod")]
    Pinned(#[from] PinError),
    /// Its first process stays.
    #[error(transparent)]
    Init(#[from] InitError),
    /// Its cgroup stays.
    #[error("cannot remove the pod's cgroup")]
    Cgroup(#[from] CgroupError),
    /// Its files stay.
    #[error(transparent)]
    Files(#[from] FileError),
    /// Its state cannot change.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Its record cannot be deleted.
    #[error("cannot delete the sandbox's record")]
    Store(#[from] StoreError),
    /// It took too long.
    #[error("giving back what the pod held took longer than {0} s")]
    TimedOut(u64),
    /// The daemon ends first.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

/// Stops the sandbox's containers and takes down its network. One that is stopped already is fine.
///
/// The caller holds [`Sandbox::operation`] alone.
pub async fn stop(runtime: &Runtime, sandbox: &Sandbox) -> Result<(), ReleaseError> {
    let containers = sandbox.containers();
    let stops = containers.iter().filter_map(|id| runtime.containers.get(id.as_str())).map(|container| async move {
        let cgroup = runtime.cgroup_of(&container);
        stop::stop(&container, &runtime.host, cgroup, Duration::ZERO, &runtime.stop)
            .await
            .map_err(|source| ReleaseError::Container { id: container.id().to_string(), source })
    });
    join_all(stops).await.into_iter().collect::<Result<(), _>>()?;
    init::end(runtime, sandbox)?;
    if sandbox.state() != SandboxState::Creating {
        // Before the network goes: should that fail, the pod is not ready all the same, and the kubelet's next call goes on.
        runtime.change_sandbox(sandbox, SandboxEvent::Stopped)?;
    }
    disconnect(runtime, sandbox).await
}

/// Removes the sandbox with its containers, in whatever state they are. One that is gone already is fine.
///
/// The caller holds [`Sandbox::operation`] alone.
pub async fn remove(runtime: &Runtime, sandbox: &Sandbox) -> Result<(), ReleaseError> {
    stop(runtime, sandbox).await?;
    let containers = sandbox.containers();
    let removals = containers.iter().filter_map(|id| runtime.containers.get(id.as_str())).map(|container| async move {
        crate::container::release::remove(runtime, &container)
            .await
            .map_err(|source| ReleaseError::ContainerStays { id: container.id().to_string(), source })
    });
    join_all(removals).await.into_iter().collect::<Result<(), _>>()?;
    runtime.change_sandbox(sandbox, SandboxEvent::Remove)?;
    release(runtime, sandbox).await?;
    runtime.store.delete(Table::Sandboxes, sandbox.id().as_str())?;
    runtime.forget_sandbox(sandbox);
    runtime.sandbox_names.release(&sandbox.metadata().config.name.to_string(), sandbox.id().as_str());
    Ok(())
}

/// Gives back everything that the sandbox holds, within `deadline`. For a creation that failed.
pub async fn undo(runtime: &Runtime, sandbox: &Sandbox, deadline: Duration) -> Result<(), ReleaseError> {
    runtime.change_sandbox(sandbox, SandboxEvent::Remove)?;
    tokio::time::timeout(deadline, release(runtime, sandbox)).await.unwrap_or(Err(ReleaseError::TimedOut(deadline.as_secs())))?;
    runtime.store.delete(Table::Sandboxes, sandbox.id().as_str())?;
    Ok(())
}

async fn release(runtime: &Runtime, sandbox: &Sandbox) -> Result<(), ReleaseError> {
    disconnect(runtime, sandbox).await?;
    let held = sandbox.status().held;
    if held.files || held.cgroup {
        let state = runtime.config.state.clone();
        let id = sandbox.id().clone();
        let cgroup = runtime.cgroup_of_sandbox(sandbox);
        let of_init = init::cgroup(runtime, sandbox).map_err(InitError::from)?.filter(Cgroup::exists);
        blocking(move || {
            if let Some(cgroup) = of_init {
                cgroup.kill()?;
                cgroup.remove()?;
            }
            if let Some(cgroup) = cgroup {
                cgroup.remove()?;
            }
            Ok(files::remove(&state, &id)?)
        })
        .await?;
    }
    runtime.change_sandbox(sandbox, SandboxEvent::Holds(Held::default()))?;
    Ok(())
}

/// Takes down the network: who forwards into it, what CNI made, then the namespace; and its other namespaces with it.
async fn disconnect(runtime: &Runtime, sandbox: &Sandbox) -> Result<(), ReleaseError> {
    let mut held = sandbox.status().held;
    if held.ports {
        runtime.host_ports.stop(&ports::file(runtime, sandbox.metadata())).await?;
        held.ports = false;
        runtime.change_sandbox(sandbox, SandboxEvent::Holds(held))?;
    }
    if held.network {
        runtime.network.remove(&network::describe(runtime, sandbox.metadata())).instrument(tracing::debug_span!("CNI")).await?;
        held.network = false;
        runtime.change_sandbox(sandbox, SandboxEvent::Holds(held))?;
    }
    if held.netns {
        let path = network::namespace(runtime, sandbox.metadata());
        blocking(move || Ok(netns::remove(&path)?)).await?;
        held.netns = false;
        runtime.change_sandbox(sandbox, SandboxEvent::Holds(held))?;
    }
    if held.ipc || held.users {
        let paths = [ipc::namespace, userns::namespace].map(|of| of(&runtime.config, sandbox.metadata()));
        blocking(move || Ok(paths.iter().try_for_each(|path| pinned::remove(path))?)).await?;
        (held.ipc, held.users) = (false, false);
        runtime.change_sandbox(sandbox, SandboxEvent::Holds(held))?;
    }
    Ok(())
}

async fn blocking(work: impl FnOnce() -> Result<(), ReleaseError> + Send + 'static) -> Result<(), ReleaseError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ReleaseError::ShuttingDown))
}
