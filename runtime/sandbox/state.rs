//! The states of a sandbox and what leads from one to another.

use serde::{Deserialize, Serialize};

use super::PodResources;

/// ```text
///                 RunPodSandbox                         StopPodSandbox, reboot
///   (record) ──▶ Creating ───────────▶ Ready ───────────────────────────────▶ NotReady
///                   │                                                            │
///                   │ a step failed, the daemon was killed                       │ RemovePodSandbox
///                   ▼                                                            ▼
///                Removing ◀──────────────────────────────────────────────────────┘
///                   │
///                   ▼  everything it held is given back
///               (no record)
/// ```
/// Creating is not listed. Removing is listed as not ready: it stays only where something could not be given back, and the next
/// RemovePodSandbox, or the next start of the daemon, goes on where it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// RunPodSandbox has not answered yet.
    Creating,
    /// Containers can be made and run in it.
    Ready,
    /// Stopped, or found without what it needs.
    NotReady,
    /// On its way out.
    Removing,
}

impl SandboxState {
    /// The state as a label of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::NotReady => "not_ready",
            Self::Removing => "removing",
        }
    }
}

/// What a sandbox holds on the node and has to give back. A flag is set before the thing is acquired, so after a kill at any
/// moment the record names at least what is there; giving back is idempotent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its directory with the files of `/etc`.
    #[serde(default)]
    pub files: bool,
    /// Its pinned network namespace.
    #[serde(default)]
    pub netns: bool,
    /// What CNI made for it: interfaces, addresses, port mappings.
    #[serde(default)]
    pub network: bool,
    /// The process that forwards its host ports.
    #[serde(default)]
    pub ports: bool,
    /// Its own cgroup.
    #[serde(default)]
    pub cgroup: bool,
    /// Its pinned IPC namespace.
    #[serde(default)]
    pub ipc: bool,
    /// Its pinned user namespace.
    #[serde(default)]
    pub users: bool,
}

impl Held {
    /// Nothing is left to give back.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Addresses of a pod, as CNI gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddresses {
    /// The first one; empty where there is none.
    pub ip: String,
    /// The others.
    pub additional: Vec<String>,
}

/// What changes of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// Its state.
    pub state: SandboxState,
    /// What it has to give back.
    pub held: Held,
    /// Its addresses; `None` in the node's network.
    pub addresses: Option<PodAddresses>,
    /// What it may use, where that was changed after its creation.
    #[serde(default)]
    pub resources: Option<Box<PodResources>>,
}

/// What can happen to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxEvent {
    /// This is about to be acquired, or has been given back.
    Holds(Held),
    /// Its network is there.
    Connected(PodAddresses),
    /// Everything is there.
    Created,
    /// It is stopped, or what it needs was found gone.
    Stopped,
    /// What it may use has changed.
    Updated(Box<PodResources>),
    /// It is to go.
    Remove,
}

impl SandboxEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::Holds(_) => "change what it holds",
            Self::Connected(_) => "be connected",
            Self::Created => "become ready",
            Self::Stopped => "be stopped",
            Self::Updated(_) => "be updated",
            Self::Remove => "be removed",
        }
    }
}

/// An event that does not fit the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sandbox in state {state:?} cannot {event}")]
pub struct TransitionError {
    /// The state it is in.
    pub state: SandboxState,
    /// What was to happen.
    pub event: &'static str,
}

impl SandboxStatus {
    /// The first one, before anything is acquired.
    pub fn creating(held: Held) -> Self {
        Self { state: SandboxState::Creating, held, addresses: None, resources: None }
    }

    /// What it is after `event`.
    pub fn after(&self, event: SandboxEvent) -> Result<Self, TransitionError> {
        use SandboxState::{Creating, NotReady, Ready, Removing};
        let mut next = self.clone();
        next.state = match (self.state, &event) {
            (state, SandboxEvent::Holds(held)) => {
                next.held = *held;
                state
            }
            (Creating, SandboxEvent::Connected(addresses)) => {
                next.addresses = Some(addresses.clone());
                Creating
            }
            (Creating, SandboxEvent::Created) => Ready,
            (Ready | NotReady, SandboxEvent::Stopped) => NotReady,
            (Removing, SandboxEvent::Stopped) => Removing,
            (Ready | NotReady, SandboxEvent::Updated(resources)) => {
                next.resources = Some(resources.clone());
                self.state
            }
            (Creating | Ready | NotReady | Removing, SandboxEvent::Remove) => Removing,
            (state, event) => return Err(TransitionError { state, event: event.name() }),
        };
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_state(state: SandboxState) -> SandboxStatus {
        SandboxStatus { state, ..SandboxStatus::creating(Held::default()) }
    }

    #[test]
    fn the_whole_life_of_a_sandbox() {
        let held = Held { netns: true, network: true, ..Held::default() };
        let addresses = PodAddresses { ip: "10.0.0.2".into(), additional: Vec::new() };
        let mut status = SandboxStatus::creating(held);
        for (event, state) in [
            (SandboxEvent::Connected(addresses.clone()), SandboxState::Creating),
            (SandboxEvent::Created, SandboxState::Ready),
            (SandboxEvent::Stopped, SandboxState::NotReady),
            (SandboxEvent::Stopped, SandboxState::NotReady),
            (SandboxEvent::Remove, SandboxState::Removing),
            (SandboxEvent::Remove, SandboxState::Removing),
            (SandboxEvent::Holds(Held::default()), SandboxState::Removing),
        ] {
            status = status.after(event).unwrap();
            assert_eq!(status.state, state);
        }
        assert_eq!(status.addresses, Some(addresses));
        assert!(status.held.is_empty());
    }

    #[test]
    fn an_event_that_does_not_fit_names_both_the_state_and_what_was_to_happen() {
        let error = in_state(SandboxState::NotReady).after(SandboxEvent::Created).unwrap_err();
        assert_eq!(error.to_string(), "a sandbox in state NotReady cannot become ready");
        assert!(in_state(SandboxState::Creating).after(SandboxEvent::Stopped).is_err());
        assert!(in_state(SandboxState::Removing).after(SandboxEvent::Created).is_err());
        assert!(in_state(SandboxState::Ready).after(SandboxEvent::Connected(PodAddresses::default())).is_err());
    }
}
