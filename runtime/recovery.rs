//! What a daemon does first: joins its records with what is there, and finishes what an earlier one left half done.
//!
//! | record | found | becomes |
//! |---|---|---|
//! | container Running or Starting | its process lives | Running |
//! | | its end is on record | Exited as recorded |
//! | container Running | nothing | Exited, 255, Unknown |
//! | container Starting | nothing | Created: the launch never took place |
//! | container Removing | | removed, in the background |
//! | sandbox Ready | its network namespace | Ready |
//! | | its forwarder of host ports is gone | Ready, with another one |
//! | | no such namespace, or another boot | NotReady |
//! | sandbox Creating | | undone, in the background |
//! | sandbox Removing | | removed, in the background |
//! | – | a guest, a directory, a namespace, an address | ended, removed, given back |
//!
//! Nothing here waits for another program but the supervisor, and nothing that goes wrong with one object keeps the others from
//! being served.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::container::{Container, ContainerEvent, ContainerRecord, ContainerState, ContainerStatus, Exit};
use crate::host::{Process, Seen};
use crate::network::{INTERFACE, netns};
use crate::pinned;
use crate::sandbox::{self, Sandbox, SandboxEvent, SandboxRecord, SandboxState};
use crate::state::{OpenError, Runtime};
use crate::store::{Origin, chain};

/// How long giving back what a half-made sandbox held may take; the CNI plugins have their own, shorter deadlines.
const UNDO_DEADLINE: Duration = Duration::from_secs(120);

/// How long ago a guest may have ended, in nanoseconds, for its end to be told again: clients that follow events list what is there
/// every five minutes.
const TOLD_AGAIN: i64 = 300 * 1_000_000_000;

/// Fills the runtime from its records. See the table above.
pub async fn recover(runtime: &Arc<Runtime>, origin: Origin) -> Result<(), OpenError> {
    let host = runtime.host.clone();
    let seen = tokio::task::spawn_blocking(move || host.scan()).await.map_err(|_| OpenError::Interrupted)??;
    let mut guests: HashMap<String, Seen> = seen.into_iter().collect();
    let sandbox_records = runtime.store.load::<SandboxRecord>()?;
    let container_records = runtime.store.load::<ContainerRecord>()?;
    let leftovers = Leftovers::find(runtime, &sandbox_records, &container_records);
    tracing::info!(
        ?origin,
        sandboxes = sandbox_records.len(),
        containers = container_records.len(),
        guests = guests.len(),
        "records are read"
    );

    let mut unfinished = Vec::new();
    let mut attached = Vec::new();
    for record in sandbox_records {
        if record.status.held.network {
            attached.push((record.metadata.id.to_string(), INTERFACE.to_owned()));
        }
        let sandbox = Sandbox::restore(record, Arc::clone(&runtime.store));
        if sandbox.state() == SandboxState::Creating {
            unfinished.push(sandbox);
        } else {
            runtime.sandboxes.insert(sandbox);
        }
    }
    // First everything is there, then it changes: an event tells the whole pod.
    let containers: Vec<_> = container_records.into_iter().map(|record| restore_container(runtime, record)).collect();
    let mut removals = Vec::new();
    let mut ended = Vec::new();
    for container in containers {
        let guest = guests.remove(container.id().as_str());
        let orphan = runtime.sandboxes.find(container.metadata().sandbox.as_str()).is_err();
        settle(runtime, &container, guest, origin, &mut ended);
        if orphan || container.state() == ContainerState::Removing {
            removals.push(container);
        }
    }
    for sandbox in runtime.sandboxes.all() {
        settle_sandbox(runtime, &sandbox, origin);
        // A pod in which nothing was made yet: its client may never have heard of it, and is handed it when it asks again.
        let claimed = !(sandbox.state() == SandboxState::Ready && sandbox.containers().is_empty());
        runtime.sandbox_names.restore(&sandbox.metadata().config.name.to_string(), sandbox.id().as_str(), claimed);
    }
    for (guest, seen) in guests {
        // The first process of a pod's PID namespace carries the pod's id, and lives as long as the pod is ready.
        if !runtime.sandboxes.find(&guest).is_ok_and(|sandbox| sandbox.state() == SandboxState::Ready) {
            end_stray(runtime, &guest, &seen);
        }
    }
    finish_in_background(runtime, unfinished, removals, ended, leftovers, attached);
    Ok(())
}

/// Brings one sandbox to what is true.
fn settle_sandbox(runtime: &Arc<Runtime>, sandbox: &Arc<Sandbox>, origin: Origin) {
    if sandbox.state() == SandboxState::Ready {
        let lost_network =
            sandbox.status().held.netns && !netns::is_pinned(&sandbox::network::namespace(runtime, sandbox.metadata()));
        let (held, metadata) = (sandbox.status().held, sandbox.metadata());
        let lost_other = held.ipc && !pinned::is_pinned(&sandbox::ipc::namespace(&runtime.config, metadata))
            || held.users && !pinned::is_pinned(&sandbox::userns::namespace(&runtime.config, metadata));
        if origin == Origin::Rebooted || lost_network || lost_other {
            tracing::warn!(sandbox = %sandbox.id(), ?origin, lost_network, lost_other, "the sandbox is no longer ready");
            if let Err(error) = runtime.change_sandbox(sandbox, SandboxEvent::Stopped) {
                tracing::error!(sandbox = %sandbox.id(), error = %chain(&error), "the sandbox's end is not recorded");
            }
        }
    }
    sandbox::ports::keep(runtime, sandbox);
}

fn restore_container(runtime: &Runtime, record: ContainerRecord) -> Arc<Container> {
    let metadata = &record.metadata;
    let volumes = metadata.mounts.iter().filter_map(|mount| Some(&mount.image.as_ref()?.image_id));
    let hold = |id: &String| {
        runtime.images.hold(id).inspect_err(|error| {
            tracing::warn!(container = %metadata.id, %error, "an image of a container is gone");
        })
    };
    let images = [&metadata.image_id].into_iter().chain(volumes).filter_map(|id| hold(id).ok()).collect();
    let claimed = record.status.state != ContainerState::Created;
    let container = Container::restore(record, images, Arc::clone(&runtime.store));
    let metadata = container.metadata();
    runtime.container_names.restore(&metadata.config.reserved_name(&metadata.sandbox), metadata.id.as_str(), claimed);
    if let Ok(sandbox) = runtime.sandboxes.find(metadata.sandbox.as_str()) {
        sandbox.add_container(metadata.id.clone());
    }
    runtime.containers.insert(Arc::clone(&container));
    container
}

/// Brings one container to what is true; those whose guest is gone are added to `ended`.
fn settle(runtime: &Runtime, container: &Arc<Container>, guest: Option<Seen>, origin: Origin, ended: &mut Vec<Arc<Container>>) {
    let status = container.status();
    let now = wasm_host::protocol::now();
    let event = match verdict(&status, guest, origin, now) {
        Verdict::Right => {
            if status.exit.is_some_and(|exit| exit.finished_at > now.saturating_sub(TOLD_AGAIN)) {
                runtime.tell_end_again(container);
            }
            return;
        }
        Verdict::Kill(process) => {
            tracing::warn!(container = %container.id(), state = ?status.state, "a guest runs that should not; it is killed");
            if let Err(error) = runtime.host.signal(&process, libc::SIGKILL) {
                tracing::error!(container = %container.id(), %error, "it cannot be killed");
            }
            return;
        }
        Verdict::Apply(event) => event,
    };
    if !matches!(event, ContainerEvent::Started(_)) {
        // Should a supervisor still start it, its cgroup is gone by then, and its end is told as any other.
        ended.push(Arc::clone(container));
    }
    if let Err(error) = runtime.change_container(container, event) {
        tracing::error!(container = %container.id(), error = %chain(&error), "the container's state is not recorded");
    }
}

/// What a record becomes in the light of what was found.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// It is as it is on record.
    Right,
    /// This happened meanwhile.
    Apply(ContainerEvent),
    /// A guest of a container that does not run.
    Kill(Process),
}

fn verdict(status: &ContainerStatus, guest: Option<Seen>, origin: Origin, now: i64) -> Verdict {
    use ContainerState::{Created, Exited, Removing, Running, Starting};
    match (status.state, guest) {
        (Starting, Some(Seen::Running(process))) => Verdict::Apply(ContainerEvent::Started(process)),
        (Starting | Running, Some(Seen::Ended(record))) => Verdict::Apply(ContainerEvent::Ended(record.into())),
        (Starting, None) => Verdict::Apply(ContainerEvent::NotStarted),
        (Running, None) => {
            let message =
                if origin == Origin::Rebooted { "the node was restarted" } else { "the guest and its exit record are gone" };
            Verdict::Apply(ContainerEvent::Ended(Exit::unknown(status.started_at(), now, message)))
        }
        (Created | Exited | Removing, Some(Seen::Running(process))) => Verdict::Kill(process),
        (Running, Some(Seen::Running(_))) | (Created | Exited | Removing, Some(Seen::Ended(_)) | None) => Verdict::Right,
    }
}

/// A guest that belongs to no record.
fn end_stray(runtime: &Runtime, guest: &str, seen: &Seen) {
    tracing::warn!(guest, ?seen, "a guest belongs to no container");
    let done = match seen {
        // Its files go when its end is told.
        Seen::Running(process) => runtime.host.signal(process, libc::SIGKILL),
        Seen::Ended(_) => runtime.host.forget(guest),
    };
    if let Err(error) = done {
        tracing::error!(guest, %error, "it cannot be ended");
    }
}

fn finish_in_background(
    runtime: &Arc<Runtime>,
    unfinished: Vec<Arc<Sandbox>>,
    removals: Vec<Arc<Container>>,
    ended: Vec<Arc<Container>>,
    leftovers: Leftovers,
    attached: Vec<(String, String)>,
) {
    let task = Arc::clone(runtime);
    runtime.spawn(async move {
        for container in ended {
            crate::events::release_cgroup(&task, &container).await;
        }
        for container in removals {
            if let Err(error) = crate::container::release::remove(&task, &container).await {
                tracing::warn!(container = %container.id(), error = %chain(&error), "a half-removed container stays");
            }
        }
        for sandbox in unfinished {
            tracing::info!(sandbox = %sandbox.id(), "undoing a sandbox that was half made");
            if let Err(error) = sandbox::release::undo(&task, &sandbox, UNDO_DEADLINE).await {
                tracing::warn!(sandbox = %sandbox.id(), error = %chain(&error), "it stays until it is removed");
                task.add_sandbox(&sandbox);
            }
        }
        for sandbox in task.sandboxes.all().into_iter().filter(|sandbox| sandbox.state() == SandboxState::Removing) {
            let _operation = sandbox.operation.write().await;
            if let Err(error) = sandbox::release::remove(&task, &sandbox).await {
                tracing::warn!(sandbox = %sandbox.id(), error = %chain(&error), "a half-removed sandbox stays");
            }
        }
        task.images.collect_removed().await;
        if let Err(error) = task.network.collect(&attached).await {
            tracing::warn!(error = %chain(&error), "leftovers of the network stay");
        }
        let _ = tokio::task::spawn_blocking(move || leftovers.remove()).await;
    });
}

/// Directories and namespaces of objects that have no record. Found before anything new is made.
struct Leftovers {
    directories: Vec<PathBuf>,
    namespaces: Vec<PathBuf>,
}

impl Leftovers {
    fn find(runtime: &Runtime, sandboxes: &[SandboxRecord], containers: &[ContainerRecord]) -> Self {
        let is_sandbox = |name: &str| sandboxes.iter().any(|record| record.metadata.id.as_str() == name);
        let is_container = |name: &str| containers.iter().any(|record| record.metadata.id.as_str() == name);
        let config = &runtime.config;
        let mut directories = names_in(&config.state.join("sandboxes"), |name| !is_sandbox(name));
        directories.extend(names_in(&config.state.join("containers"), |name| !is_container(name)));
        directories.extend(names_in(&config.root.join("containers"), |name| !is_container(name)));
        // What was tried when it was cut off.
        directories.extend(names_in(&config.root, |name| name.starts_with(sandbox::userns::TRY_PREFIX)));
        let mut namespaces =
            names_in(&config.netns_dir(), |name| name.strip_prefix(netns::PREFIX).is_some_and(|id| !is_sandbox(id)));
        for directory in [sandbox::ipc::directory(config), sandbox::userns::directory(config)] {
            namespaces.extend(names_in(&directory, |name| !is_sandbox(name)));
        }
        Self { directories, namespaces }
    }

    fn remove(self) {
        for path in self.namespaces {
            tracing::info!(path = %path.display(), "removing a namespace of a sandbox that is no more");
            if let Err(error) = pinned::remove(&path) {
                tracing::warn!(error = %chain(&error), "it stays");
            }
        }
        for path in self.directories {
            tracing::info!(path = %path.display(), "removing files that belong to no record");
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "they stay");
            }
        }
    }
}

fn names_in(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let entries = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&wanted));
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 900;

    fn process() -> Process {
        Process { pid: 42, start_ticks: 7, started_at: 100 }
    }

    fn status(state: ContainerState) -> ContainerStatus {
        let process = matches!(state, ContainerState::Running | ContainerState::Exited).then(process);
        ContainerStatus { state, process, exit: None, resources: None }
    }

    fn ended() -> Seen {
        let record = wasm_host::protocol::ExitRecord { exit_code: 3, reason: "Error".into(), ..Default::default() };
        Seen::Ended(record)
    }

    fn exit_code(verdict: &Verdict) -> Option<i32> {
        match verdict {
            Verdict::Apply(ContainerEvent::Ended(exit)) => Some(exit.code),
            _ => None,
        }
    }

    #[test]
    fn a_guest_that_runs_on_is_running() {
        let found = || Some(Seen::Running(process()));
        assert_eq!(verdict(&status(ContainerState::Running), found(), Origin::Live, NOW), Verdict::Right);
        let started = Verdict::Apply(ContainerEvent::Started(process()));
        assert_eq!(verdict(&status(ContainerState::Starting), found(), Origin::Live, NOW), started);
    }

    #[test]
    fn a_guest_that_ended_meanwhile_has_its_recorded_end_also_after_a_reboot() {
        for state in [ContainerState::Starting, ContainerState::Running] {
            for origin in [Origin::Live, Origin::Mirror, Origin::Rebooted] {
                assert_eq!(exit_code(&verdict(&status(state), Some(ended()), origin, NOW)), Some(3));
            }
        }
    }

    #[test]
    fn a_guest_of_which_nothing_is_left_ended_for_unknown_reasons() {
        let lost = verdict(&status(ContainerState::Running), None, Origin::Rebooted, NOW);
        let Verdict::Apply(ContainerEvent::Ended(exit)) = lost else { panic!("{lost:?}") };
        assert_eq!((exit.code, exit.reason.as_str(), exit.started_at, exit.finished_at), (255, "Unknown", 100, NOW));
        assert_eq!(exit.message, "the node was restarted");
    }

    #[test]
    fn a_launch_that_never_took_place_leaves_the_container_created() {
        let verdict = verdict(&status(ContainerState::Starting), None, Origin::Live, NOW);
        assert_eq!(verdict, Verdict::Apply(ContainerEvent::NotStarted));
    }

    #[test]
    fn a_guest_of_a_container_that_does_not_run_is_killed() {
        for state in [ContainerState::Created, ContainerState::Exited, ContainerState::Removing] {
            let found = Some(Seen::Running(process()));
            assert_eq!(verdict(&status(state), found, Origin::Live, NOW), Verdict::Kill(process()));
            assert_eq!(verdict(&status(state), Some(ended()), Origin::Live, NOW), Verdict::Right);
            assert_eq!(verdict(&status(state), None, Origin::Rebooted, NOW), Verdict::Right);
        }
    }
}
