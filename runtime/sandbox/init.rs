//! The first process of a pod's PID namespace, for pods whose containers share one and can see it (handler option `procfs`).
//!
//! It is started with the first container that needs it and ends with the pod. Its guest carries the sandbox's id, so its
//! files alone say whether it is there: also to a daemon that has just started.

use wasm_host::protocol::{CodeKind, DescriptorKind, GuestSpec, PidNamespace};

use super::Sandbox;
use crate::cgroup::{Cgroup, CgroupError, CgroupPath, Limits, PathError, Version, unit};
use crate::host::{HostError, Process};
use crate::state::Runtime;

/// Why a pod has no PID namespace.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Its cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Its cgroup's path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The daemon is ending.
    #[error("the daemon is shutting down")]
    ShuttingDown,
    /// The supervisor.
    #[error("cannot start the pod's first process")]
    Host(#[from] HostError),
}

/// The process, started if it is not there.
pub async fn ensure(runtime: &Runtime, sandbox: &Sandbox) -> Result<Process, InitError> {
    // Containers of one pod may be started at once.
    let _alone = sandbox.init.lock().await;
    let guest = sandbox.id().as_str();
    if let Some(process) = runtime.host.look(guest) {
        return Ok(process);
    }
    let mut descriptors = Vec::new();
    let mut made = None;
    if let Some(cgroup) = cgroup(runtime, sandbox)? {
        let cgroups = runtime.cgroups.clone();
        let make = tokio::task::spawn_blocking(move || cgroups.make(cgroup.path(), &Limits::default()));
        let group = make.await.map_err(|_| InitError::ShuttingDown)??;
        descriptors.extend(group.group.procs_files()?.into_iter().map(|file| (DescriptorKind::CgroupProcs, file)));
        made = Some(group);
    }
    let mut spec = GuestSpec { args: vec!["pause".to_owned()], procfs: true, ..GuestSpec::default() };
    spec.set_kind(CodeKind::Init);
    // Nobody's user: it owns nothing and nobody may touch it.
    (spec.uid, spec.gid) = (65534, 65534);
    let launched = runtime.host.launch(guest, &spec, PidNamespace::PidOwn, descriptors).await;
    crate::cgroup::driver::release(made).await;
    Ok(launched?)
}

/// Ends it, and with it whatever is left in the namespace. None there is as good.
pub fn end(runtime: &Runtime, sandbox: &Sandbox) -> Result<(), InitError> {
    if let Some(process) = runtime.host.look(sandbox.id().as_str()) {
        runtime.host.signal(&process, libc::SIGKILL)?;
    }
    Ok(())
}

/// Its cgroup, beside those of the pod's containers; `None` where the node has none.
pub fn cgroup(runtime: &Runtime, sandbox: &Sandbox) -> Result<Option<Cgroup>, PathError> {
    if runtime.cgroups.version() == Version::None {
        return Ok(None);
    }
    let path = unit::below(&CgroupPath::recorded(&sandbox.metadata().cgroup_parent)?, sandbox.id().as_str())?;
    Ok(Some(runtime.cgroups.open(&path)))
}
