//! The states of a container and what leads from one to another.

use serde::{Deserialize, Serialize};

use super::Resources;
use crate::host::Process;

/// Exit code of a container whose guest could not be started, as containerd has it.
pub const START_FAILED: i32 = 128;
/// Exit code where nothing is known of the end.
pub const UNKNOWN_EXIT: i32 = 255;

/// ```text
///        CreateContainer        StartContainer
///  (none) ─────────────▶ Created ─────────────▶ Starting ─────────▶ Running
///                         │   ▲                  │  │ the guest       │ the guest ended,
///                         │   └──────────────────┘  │ ended, or       │ or was found gone
///                         │  the daemon was killed  │ no start        │
///        RemoveContainer  │  before the launch      ▼                 │
///  Removing ◀─────────────┴───────────────────── Exited ◀─────────────┘
///     │
///     ▼  everything it held is given back
///  (no record)
/// ```
/// Creating a container acquires nothing but its record, so there is no state before Created. Starting is listed as created,
/// Removing as exited (it stays only where something could not be given back). StopContainer has no state of its own: it sends
/// signals to a running guest, and the guest's end does the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// It can be started.
    Created,
    /// Its guest is being launched.
    Starting,
    /// Its guest runs.
    Running,
    /// Its guest has ended.
    Exited,
    /// On its way out.
    Removing,
}

impl ContainerState {
    /// The state as a label of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Removing => "removing",
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 to 255.
    pub code: i32,
    /// A CRI reason: Completed, Error, Trap, OOMKilled, StartError, Unknown.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Nanoseconds since the epoch; 0 where it never ran.
    pub started_at: i64,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
}

impl Exit {
    /// The end of a guest of which nothing was found.
    pub fn unknown(started_at: i64, finished_at: i64, message: &str) -> Self {
        Self { code: UNKNOWN_EXIT, reason: "Unknown".to_owned(), message: message.to_owned(), started_at, finished_at }
    }

    /// A guest that could not be started.
    pub fn start_failed(now: i64, message: String) -> Self {
        Self { code: START_FAILED, reason: "StartError".to_owned(), message, started_at: 0, finished_at: now }
    }
}

impl From<wasm_host::protocol::ExitRecord> for Exit {
    fn from(record: wasm_host::protocol::ExitRecord) -> Self {
        Self {
            code: record.exit_code,
            reason: record.reason,
            message: record.message,
            started_at: record.started_at,
            finished_at: record.finished_at,
        }
    }
}

/// What changes of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its state.
    pub state: ContainerState,
    /// Its process, once it runs.
    pub process: Option<Process>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// What it may use, where that was changed after its creation.
    #[serde(default)]
    pub resources: Option<Resources>,
}

/// What can happen to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerEvent {
    /// A launch begins.
    Start,
    /// The launch never took place: it can be tried again.
    NotStarted,
    /// The guest runs.
    Started(Process),
    /// The guest has ended, or could not be started.
    Ended(Exit),
    /// What it may use has changed.
    Updated(Resources),
    /// It is to go.
    Remove,
}

impl ContainerEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::Start => "be started",
            Self::NotStarted => "be not started",
            Self::Started(_) => "run",
            Self::Ended(_) => "end",
            Self::Updated(_) => "be updated",
            Self::Remove => "be removed",
        }
    }
}

/// An event that does not fit the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a container in state {state:?} cannot {event}")]
pub struct TransitionError {
    /// The state it is in.
    pub state: ContainerState,
    /// What was to happen.
    pub event: &'static str,
}

impl ContainerStatus {
    /// The first one.
    pub fn created() -> Self {
        Self { state: ContainerState::Created, process: None, exit: None, resources: None }
    }

    /// What it is after `event`.
    pub fn after(&self, event: ContainerEvent) -> Result<Self, TransitionError> {
        use ContainerState::{Created, Exited, Removing, Running, Starting};
        let mut next = self.clone();
        next.state = match (self.state, event) {
            (Created, ContainerEvent::Start) => Starting,
            (Starting, ContainerEvent::NotStarted) => Created,
            (Starting, ContainerEvent::Started(process)) => {
                next.process = Some(process);
                Running
            }
            // A short guest's end can be told before its start: the end stands.
            (Exited, ContainerEvent::Started(_)) => Exited,
            (Starting | Running, ContainerEvent::Ended(exit)) => {
                next.exit = Some(exit);
                Exited
            }
            // Told twice, by its supervisor and by a scan: the first one stands.
            (Exited | Removing, ContainerEvent::Ended(_)) => self.state,
            (Created | Starting | Running | Exited, ContainerEvent::Updated(resources)) => {
                next.resources = Some(resources);
                self.state
            }
            (Created | Exited | Removing, ContainerEvent::Remove) => Removing,
            (state, event) => return Err(TransitionError { state, event: event.name() }),
        };
        Ok(next)
    }

    /// Nanoseconds since the epoch; 0: never.
    pub fn started_at(&self) -> i64 {
        match (&self.process, &self.exit) {
            (Some(process), _) => process.started_at,
            (None, Some(exit)) => exit.started_at,
            (None, None) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process { pid: 42, start_ticks: 7, started_at: 100 }
    }

    fn exit(code: i32) -> Exit {
        Exit { code, reason: "Error".into(), message: String::new(), started_at: 100, finished_at: 200 }
    }

    fn reach(events: impl IntoIterator<Item = ContainerEvent>) -> ContainerStatus {
        events.into_iter().fold(ContainerStatus::created(), |status, event| status.after(event).unwrap())
    }

    #[test]
    fn the_whole_life_of_a_container() {
        let status = reach([ContainerEvent::Start, ContainerEvent::Started(process()), ContainerEvent::Ended(exit(3))]);
        assert_eq!(status.state, ContainerState::Exited);
        assert_eq!(status.exit, Some(exit(3)));
        assert_eq!(status.started_at(), 100);
        assert_eq!(status.after(ContainerEvent::Remove).unwrap().state, ContainerState::Removing);
    }

    #[test]
    fn an_end_told_before_the_start_stands() {
        let status = reach([ContainerEvent::Start, ContainerEvent::Ended(exit(3))]);
        let status = status.after(ContainerEvent::Started(process())).unwrap();
        assert_eq!(status.state, ContainerState::Exited);
        assert_eq!(status.started_at(), 100);
    }

    #[test]
    fn an_end_told_twice_counts_once() {
        let status = reach([ContainerEvent::Start, ContainerEvent::Ended(exit(3))]);
        assert_eq!(status.after(ContainerEvent::Ended(exit(4))).unwrap(), status);
    }

    #[test]
    fn a_start_that_never_took_place_can_be_tried_again() {
        let status = reach([ContainerEvent::Start, ContainerEvent::NotStarted]);
        assert_eq!(status.after(ContainerEvent::Start).unwrap().state, ContainerState::Starting);
    }

    #[test]
    fn an_event_that_does_not_fit_names_both_the_state_and_what_was_to_happen() {
        let running = reach([ContainerEvent::Start, ContainerEvent::Started(process())]);
        assert_eq!(
            running.after(ContainerEvent::Start).unwrap_err().to_string(),
            "a container in state Running cannot be started"
        );
        assert!(running.after(ContainerEvent::Remove).is_err(), "a running guest is stopped before its container goes");
        let created = ContainerStatus::created();
        assert!(created.after(ContainerEvent::Started(process())).is_err());
        assert!(created.after(ContainerEvent::Ended(exit(0))).is_err());
    }
}
