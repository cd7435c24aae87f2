//! Gives back what a container holds, and removes it.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::stop::{self, StopError};
use super::{ChangeError, Container, ContainerEvent, ContainerState, directory};
use crate::cgroup::CgroupError;
use crate::host::HostError;
use crate::state::Runtime;
use crate::store::{StoreError, Table};

/// Why a container is still there. It stays listed, and the next RemoveContainer goes on.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Its guest does not end.
    #[error("cannot stop the container")]
    Stop(#[from] StopError),
    /// Its state cannot change.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Its record cannot be deleted.
    #[error("cannot delete the container's record")]
    Store(#[from] StoreError),
    /// Its cgroup stays.
    #[error("cannot remove the container's cgroup")]
    Cgroup(#[from] CgroupError),
    /// Its files stay.
    #[error("cannot remove {path}")]
    Files {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The files of its guest stay.
    #[error("cannot remove the files of the container's guest")]
    Guest(#[from] HostError),
    /// The daemon ends first.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

/// Removes a container, in whatever state it is: a running guest is killed. One that is gone already is fine.
///
/// Everything is idempotent, and the record goes last, so after a failure or a kill the same call goes on.
pub async fn remove(runtime: &Runtime, container: &Container) -> Result<(), RemoveError> {
    let _operation = container.operation.lock().await;
    if runtime.containers.get(container.id().as_str()).is_none() {
        return Ok(());
    }
    if matches!(container.state(), ContainerState::Running | ContainerState::Starting) {
        stop::stop(container, &runtime.host, runtime.cgroup_of(container), Duration::ZERO, &runtime.stop).await?;
    }
    runtime.change_container(container, ContainerEvent::Remove)?;
    release(runtime, container).await?;
    runtime.store.delete(Table::Containers, container.id().as_str())?;
    forget(runtime, container);
    Ok(())
}

/// Takes a container that has no record any more out of memory.
pub fn forget(runtime: &Runtime, container: &Container) {
    let metadata = container.metadata();
    runtime.forget_container(container);
    runtime.container_names.release(&metadata.config.reserved_name(&metadata.sandbox), metadata.id.as_str());
}

/// Gives back its cgroup, its files, its image, and the files of its guest, whose process is gone.
pub async fn release(runtime: &Runtime, container: &Container) -> Result<(), RemoveError> {
    let cgroup = runtime.cgroup_of(container);
    let files = [directory(&runtime.config.root, container.id()), runtime.container_state(container)];
    let blocking = tokio::task::spawn_blocking(move || {
        if let Some(cgroup) = cgroup {
            cgroup.kill()?;
            cgroup.remove()?;
        }
        files.iter().try_for_each(|path| remove_directory(path))
    });
    blocking.await.map_err(|_| RemoveError::ShuttingDown)??;
    runtime.host.forget(container.id().as_str())?;
    container.let_go_of_images();
    Ok(())
}

fn remove_directory(path: &Path) -> Result<(), RemoveError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RemoveError::Files { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}
