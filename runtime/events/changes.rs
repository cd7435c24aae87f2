//! The changes of what clients can see, each with the event that tells it.
//!
//! Sandboxes that are being created are not among the runtime's, and whatever happens to those is nobody's business. The order of
//! one pod's events is containerd's: sandbox created, started; container created, started, stopped, deleted; sandbox stopped,
//! deleted.

use std::sync::Arc;

use super::{Event, EventKind, Turn};
use crate::container::{self, Container, ContainerEvent, ContainerState, ContainerStatus};
use crate::sandbox::{self, Sandbox, SandboxEvent, SandboxState};
use crate::state::Runtime;

impl Runtime {
    /// A sandbox is among the runtime's from now on. One that is not ready is what could not be given back of a failed one.
    pub fn add_sandbox(&self, sandbox: &Arc<Sandbox>) {
        let mut turn = self.events.turn();
        self.sandboxes.insert(Arc::clone(sandbox));
        let state = if sandbox.state() == SandboxState::Ready { EventKind::Started } else { EventKind::Stopped };
        for kind in [EventKind::Created, state] {
            self.tell(&mut turn, sandbox, sandbox.id().as_str(), kind);
        }
    }

    /// Applies an event to a sandbox: to the record first, then to memory, then clients are told.
    pub fn change_sandbox(&self, sandbox: &Sandbox, event: SandboxEvent) -> Result<(), sandbox::ChangeError> {
        let mut turn = self.events.turn();
        let before = sandbox.state();
        sandbox.apply(&turn, event)?;
        if before == SandboxState::Ready
            && sandbox.state() != SandboxState::Ready
            && let Some(sandbox) = self.sandboxes.get(sandbox.id().as_str())
        {
            self.tell(&mut turn, &sandbox, sandbox.id().as_str(), EventKind::Stopped);
        }
        Ok(())
    }

    /// A sandbox that has no record any more is no longer among the runtime's.
    ///
    /// Where its pod has another sandbox by then, that one is told as what the pod is. To a kubelet the end of the sandbox that an
    /// event shows is the end of the pod: it would forget the other one, make a third, and end what runs (seen with 1.36).
    pub fn forget_sandbox(&self, sandbox: &Sandbox) {
        let id = sandbox.id().as_str();
        let mut turn = self.events.turn();
        if let Some(sandbox) = self.sandboxes.get(id) {
            self.sandboxes.remove(sandbox.id());
            let shown = self.sandboxes.latest_of_pod(&sandbox).unwrap_or(sandbox);
            self.tell(&mut turn, &shown, id, EventKind::Deleted);
            turn.forget(id);
        }
    }

    /// A container is in its sandbox from now on.
    pub fn add_container(&self, sandbox: &Arc<Sandbox>, container: Arc<Container>) {
        let mut turn = self.events.turn();
        let id = container.id().clone();
        sandbox.add_container(id.clone());
        self.containers.insert(container);
        self.tell(&mut turn, sandbox, id.as_str(), EventKind::Created);
    }

    /// Applies an event to a container: to the record first, then to memory, then clients are told. Returns whether anything
    /// changed.
    pub fn change_container(&self, container: &Container, event: ContainerEvent) -> Result<bool, container::ChangeError> {
        let mut turn = self.events.turn();
        let before = container.state();
        let applied = container.apply(&turn, event);
        let after = container.state();
        // Also where the end could not be recorded: it is true all the same.
        if before != after
            && let Some(sandbox) = self.sandboxes.get(container.metadata().sandbox.as_str())
        {
            let id = container.id().as_str();
            match (before, after) {
                (_, ContainerState::Running) => self.tell(&mut turn, &sandbox, id, EventKind::Started),
                (_, ContainerState::Exited) => {
                    if before == ContainerState::Starting {
                        self.tell_late_start(&mut turn, &sandbox, container);
                    }
                    self.tell(&mut turn, &sandbox, id, EventKind::Stopped);
                }
                // Whether a launch is under way, or a removal, is our own affair.
                _ => {}
            }
        }
        applied
    }

    /// Tells again that a container has ended, after a restart: nobody knows whether the earlier daemon's clients heard of it.
    pub fn tell_end_again(&self, container: &Container) {
        let mut turn = self.events.turn();
        if let Some(sandbox) = self.sandboxes.get(container.metadata().sandbox.as_str()) {
            self.tell(&mut turn, &sandbox, container.id().as_str(), EventKind::Stopped);
        }
    }

    /// A container that has no record any more is no longer among the runtime's, nor in its sandbox.
    pub fn forget_container(&self, container: &Container) {
        let mut turn = self.events.turn();
        let metadata = container.metadata();
        self.containers.remove(&metadata.id);
        if let Some(sandbox) = self.sandboxes.get(metadata.sandbox.as_str()) {
            sandbox.forget_container(&metadata.id);
            self.tell(&mut turn, &sandbox, metadata.id.as_str(), EventKind::Deleted);
        }
    }

    /// A guest that has run and ended before its start was told: both are told, each with what was so then.
    fn tell_late_start(&self, turn: &mut Turn<'_>, sandbox: &Arc<Sandbox>, container: &Container) {
        let ended = container.status();
        let started_at = ended.started_at();
        if started_at == 0 {
            // It never ran.
            return;
        }
        let process = crate::host::Process { pid: 0, start_ticks: 0, started_at };
        let running = ContainerStatus { state: ContainerState::Running, process: Some(process), exit: None, ..ended };
        let mut event = self.event(sandbox, container.id().as_str(), EventKind::Started);
        for (other, status) in &mut event.containers {
            if other.id() == container.id() {
                *status = running.clone();
            }
        }
        turn.tell(event);
    }

    fn tell(&self, turn: &mut Turn<'_>, sandbox: &Arc<Sandbox>, subject: &str, kind: EventKind) {
        turn.tell(self.event(sandbox, subject, kind));
    }

    fn event(&self, sandbox: &Arc<Sandbox>, subject: &str, kind: EventKind) -> Event {
        let containers = self.containers_of(sandbox).into_iter().map(|container| {
            let status = container.status();
            (container, status)
        });
        Event {
            subject: subject.to_owned(),
            kind,
            at: 0,
            sandbox: Arc::clone(sandbox),
            sandbox_status: sandbox.status(),
            containers: containers.collect(),
        }
    }
}
