//! Ends a container's guest: a signal, time to obey it, then the end by force.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Container, ContainerState, ContainerStatus};
use crate::cgroup::{Cgroup, CgroupError};
use crate::host::{Host, HostError};

/// How long the supervisor may take to tell an end after the guest was killed. A killed process is gone within milliseconds,
/// unless the kernel cannot let go of it (a disk that does not answer).
const KILL_DEADLINE: Duration = Duration::from_secs(30);

/// How soon a killed process is gone as a rule, and its end told.
const QUICK: Duration = Duration::from_secs(2);

/// Why a guest has not ended.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The signal could not be sent.
    #[error("cannot signal the guest")]
    Signal(#[from] HostError),
    /// Its cgroup could not be killed.
    #[error("cannot kill the guest")]
    Kill(#[from] CgroupError),
    /// It was killed and is still there.
    #[error("the guest is still there {} s after it was killed", KILL_DEADLINE.as_secs())]
    StillThere,
    /// The daemon ends first.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

/// Stops the guest if it runs. `grace` of zero: kills at once. Returns when the container has exited.
///
/// May run several times at once; the shortest grace decides, since each kills after its own.
pub async fn stop(
    container: &Container,
    host: &Host,
    cgroup: Option<Cgroup>,
    grace: Duration,
    shutdown: &CancellationToken,
) -> Result<(), StopError> {
    let mut status = container.watch();
    // A start that is under way first reaches its end: the guest runs or it does not.
    let settled = tokio::select! {
        settled = status.wait_for(|status| status.state != ContainerState::Starting) => settled.ok().map(|status| status.clone()),
        () = shutdown.cancelled() => return Err(StopError::ShuttingDown),
    };
    let process = match settled {
        Some(ContainerStatus { state: ContainerState::Running, process: Some(process), .. }) => process,
        _ => return Ok(()),
    };
    if !grace.is_zero() {
        match host.signal(&process, container.metadata().stop_signal) {
            Ok(()) if ended(&mut status, grace, shutdown).await? => return Ok(()),
            Ok(()) => {
                tracing::info!(container = %container.id(), seconds = grace.as_secs(), "the grace period is over");
            }
            // A signal that cannot be sent is no reason to let the pod live.
            Err(error) => {
                tracing::warn!(container = %container.id(), %error, "the stop signal cannot be sent; the guest is killed")
            }
        }
    }
    host.signal(&process, libc::SIGKILL)?;
    if ended(&mut status, QUICK, shutdown).await? {
        return Ok(());
    }
    // Not the known process alone: whatever is in its cgroup.
    if let Some(cgroup) = cgroup {
        kill(cgroup).await?;
    }
    if ended(&mut status, KILL_DEADLINE, shutdown).await? { Ok(()) } else { Err(StopError::StillThere) }
}

/// Kills a whole cgroup, on a thread that may block for its two seconds.
async fn kill(cgroup: Cgroup) -> Result<(), StopError> {
    match tokio::task::spawn_blocking(move || cgroup.kill()).await {
        Ok(killed) => Ok(killed?),
        // The executor is going.
        Err(_) => Err(StopError::ShuttingDown),
    }
}

async fn ended(
    status: &mut watch::Receiver<ContainerStatus>,
    within: Duration,
    shutdown: &CancellationToken,
) -> Result<bool, StopError> {
    tokio::select! {
        ended = tokio::time::timeout(within, status.wait_for(has_ended)) => Ok(ended.is_ok()),
        () = shutdown.cancelled() => Err(StopError::ShuttingDown),
    }
}

fn has_ended(status: &ContainerStatus) -> bool {
    status.state != ContainerState::Running
}
