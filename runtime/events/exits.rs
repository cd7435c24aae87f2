//! What happens when a guest has ended: its container says so, and what it no longer needs is given back.

use std::sync::Arc;

use tokio::sync::mpsc;
use wasm_host::protocol::ExitRecord;

use crate::container::{Container, ContainerEvent, Exit};
use crate::state::Runtime;
use crate::store::chain;

/// Takes in the ends of guests until the daemon ends. An end that is not taken in any more is found at the next start.
pub async fn follow_exits(runtime: Arc<Runtime>, mut exits: mpsc::Receiver<(String, ExitRecord)>) {
    loop {
        let exit = tokio::select! {
            exit = exits.recv() => exit,
            () = runtime.stop.cancelled() => return,
        };
        let Some((guest, record)) = exit else { return };
        ended(&runtime, &guest, record);
    }
}

fn ended(runtime: &Arc<Runtime>, guest: &str, record: ExitRecord) {
    let Some(container) = runtime.containers.get(guest) else {
        if let Err(error) = runtime.host.forget(guest) {
            tracing::warn!(guest, %error, "the files of a guest without a container stay");
        }
        if runtime.execs.ended(guest, record) {
            return;
        }
        tracing::debug!(guest, "a guest without a container has ended");
        return;
    };
    apply(runtime, &container, record.into());
    // What was run in it besides ends with it, also where there is no cgroup to end it by.
    for process in runtime.execs.of(guest) {
        if let Err(error) = runtime.host.signal(&process, libc::SIGKILL) {
            tracing::warn!(container = guest, pid = process.pid, %error, "a command of a container that ended runs on");
        }
    }
    let runtime_of_task = Arc::clone(runtime);
    runtime.spawn(async move { release_cgroup(&runtime_of_task, &container).await });
}

/// Records an end; one that is on record already stays as it is.
pub fn apply(runtime: &Runtime, container: &Container, exit: Exit) {
    let (code, reason) = (exit.code, exit.reason.clone());
    match runtime.change_container(container, ContainerEvent::Ended(exit)) {
        Ok(true) => tracing::info!(container = %container.id(), code, reason, "the guest has ended"),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(container = %container.id(), code, error = %chain(&error), "the end of a guest is not recorded");
        }
    }
}

/// The group of a guest that has ended is of no use: what is left in it is killed, and the group removed.
pub async fn release_cgroup(runtime: &Runtime, container: &Container) {
    let Some(cgroup) = runtime.cgroup_of(container) else { return };
    let removed = tokio::task::spawn_blocking(move || cgroup.kill().and_then(|()| cgroup.remove())).await;
    if let Ok(Err(error)) = removed {
        // RemoveContainer tries again and tells.
        tracing::warn!(container = %container.id(), error = %chain(&error), "the cgroup of a guest that ended stays");
    }
}
