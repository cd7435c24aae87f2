//! What happens to pods and containers: how it is made known, and what the runtime itself does then.
//!
//! [`changes`] are the only ways in which an object that clients can see changes. Each takes the one [`Turn`] that there is,
//! changes the record, and puts an [`Event`] into the [`log`]; so the order of the events is that of the changes, and an event's
//! statuses are those of its moment. Clients follow the log ([`Follower`]). [`exits`] takes in the ends of guests.

mod changes;
mod exits;
mod log;

pub use exits::{apply, follow_exits, release_cgroup};
pub use log::{Behind, Events, Follower, Turn};

use std::sync::Arc;

use crate::container::{Container, ContainerStatus};
use crate::sandbox::{Sandbox, SandboxStatus};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It is there.
    Created,
    /// Its guest runs; a sandbox is ready.
    Started,
    /// Its guest has ended, or could not be started; a sandbox is not ready any more.
    Stopped,
    /// It is gone.
    Deleted,
}

/// Something that happened to a container or a sandbox, with what the whole pod was at that moment.
///
/// What never changes is shared with the objects; a message is made of it for each client when that client takes it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Id of the container, or of the sandbox.
    pub subject: String,
    /// What happened to it.
    pub kind: EventKind,
    /// Nanoseconds since the epoch; greater than that of every earlier event.
    pub at: i64,
    /// The pod.
    pub sandbox: Arc<Sandbox>,
    /// What the pod's sandbox was.
    pub sandbox_status: SandboxStatus,
    /// The pod's containers that were there, in the order of their ids, and what they were.
    pub containers: Vec<(Arc<Container>, ContainerStatus)>,
}
