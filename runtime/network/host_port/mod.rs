//! Ports of the node that lead into a pod, for networks that map none themselves.
//!
//! A CNI network whose chain has a plugin with the capability `portMappings` is left to it. Without one, each pod that
//! publishes ports gets a forwarder: a process (`cri-wasm ports`) that listens on the node's addresses and connects inside the
//! pod's network namespace. It needs no packet filter, works with every CNI network, and is not the daemon's: it runs on while
//! the daemon is away, and ends when the pod is stopped.
//!
//! ```text
//! daemon ── spawn, locked file as stdin ──▶ forwarder: writes who it is into the file, listens (node's network),
//!        ◀──────────── "ready" or why not ── enters the pod's network, gives up root, forwards
//! ```
//! The file's lock ([`Lock`]) is taken before the process is started and goes with it, however it ends: whoever finds it free
//! knows that there is no forwarder, whoever does not finds in the file which process it is. So a daemon that was killed at any
//! moment leaves none behind that the next one cannot find.

mod lock;
mod mapping;
mod process;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::process::Command;
use tokio::time::timeout;

use super::pod::{PortMapping, Protocol};
use crate::cgroup::Cgroup;
use crate::store::chain;
use lock::{Lock, Watched};
pub use mapping::{Mapping, MappingError};
pub use process::{PortsArgs, main};

/// How long a forwarder may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long one that was killed may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// Between looks at one that has not said yet who it is.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(20);
/// Of what a forwarder says before it listens.
const MAX_WORDS: u64 = 4096;
/// What it says when it listens.
const READY: &str = "ready";

/// Why a pod's ports are not forwarded, or still are.
#[derive(Debug, thiserror::Error)]
pub enum HostPortError {
    /// A transport that no process can forward for others without being an endpoint itself.
    #[error(
        "host port {0}/sctp cannot be had: SCTP is mapped only by a CNI network with the capability portMappings (the plugin portmap)"
    )]
    Sctp(u16),
    /// The forwarder does not listen, in its own words: a port is taken, an address is not the node's.
    #[error("{0}")]
    Refused(String),
    /// The file by which the forwarder is found.
    #[error("cannot {action} {path}")]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
    /// It cannot be run.
    #[error("cannot run the forwarder of host ports")]
    Start(#[source] io::Error),
    /// It says nothing, or does not end.
    #[error("the forwarder of host ports took longer than {} s to {what}", .after.as_secs())]
    TimedOut {
        /// What it was to do.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The executor is ending.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

/// A forwarder that is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The file by which it is found; its directory is made.
    pub file: PathBuf,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// The pod's addresses there.
    pub addresses: Vec<IpAddr>,
    /// What it forwards. Those without a host port were left out.
    pub ports: Vec<PortMapping>,
}

/// Starts and ends forwarders.
#[derive(Debug, Clone)]
pub struct HostPorts {
    /// This program's own file.
    pub program: PathBuf,
    /// Where they all run; absent: in the daemon's own group.
    pub cgroup: Option<Cgroup>,
}

impl HostPorts {
    /// Starts a forwarder and returns once it listens on every port. After an error nothing of it is left.
    pub async fn start(&self, plan: &Plan) -> Result<(), HostPortError> {
        if let Some(port) = plan.ports.iter().find(|port| port.protocol == Protocol::Sctp) {
            return Err(HostPortError::Sctp(port.host_port));
        }
        let path = plan.file.clone();
        let lock = blocking(move || Lock::take(&path)).await?;
        let mut command = Command::new(&self.program);
        command.arg("ports").arg("--netns").arg(&plan.netns);
        for address in &plan.addresses {
            command.arg("--pod-address").arg(address.to_string());
        }
        for port in &plan.ports {
            command.arg("--port").arg(Mapping::from(port).to_string());
        }
        // It outlives the daemon, which must not be the only one to hold the lock; and it is nobody's job in a terminal.
        command.stdin(lock.into_file()).stdout(Stdio::piped()).stderr(Stdio::null()).env_clear().process_group(0);
        let mut child = command.spawn().map_err(HostPortError::Start)?;
        // The lock's file of ours is closed with the command.
        drop(command);
        self.join(child.id()).await;
        let said = match child.stdout.take() {
            Some(stdout) => timeout(START_DEADLINE, words(stdout)).await,
            None => Ok(String::new()),
        };
        match said {
            Ok(said) if said == READY => Ok(()),
            said => {
                let killed = child.start_kill();
                let gone = timeout(KILL_DEADLINE, child.wait()).await;
                tracing::debug!(?killed, ?gone, "a forwarder that does not listen is ended");
                Err(match said {
                    Ok(said) if said.is_empty() => HostPortError::Refused("the forwarder of host ports ended at once".to_owned()),
                    Ok(said) => HostPortError::Refused(said),
                    Err(_) => HostPortError::TimedOut { what: "listen", after: START_DEADLINE },
                })
            }
        }
    }

    /// Ends the forwarder of a file and removes that. None there is as good.
    pub async fn stop(&self, file: &Path) -> Result<(), HostPortError> {
        let file = file.to_owned();
        blocking(move || lock::end(&file, KILL_DEADLINE)).await
    }

    /// Waits until the forwarder of a file has ended; one that does not run has. Nothing is polled but one that has just been
    /// started and has not said yet who it is.
    pub async fn ended(file: &Path) {
        loop {
            let path = file.to_owned();
            match blocking(move || Ok(lock::watch(&path))).await {
                Ok(Watched::Process(descriptor)) => {
                    let Ok(watched) = crate::host::watch_descriptor(descriptor, Interest::READABLE) else { return };
                    // A pidfd is readable once its process has ended.
                    let _ = watched.readable().await;
                }
                Ok(Watched::Unknown) => tokio::time::sleep(UNKNOWN_PAUSE).await,
                Ok(Watched::Nobody) | Err(_) => return,
            }
        }
    }

    async fn join(&self, pid: Option<u32>) {
        let (Some(cgroup), Some(pid)) = (self.cgroup.clone(), pid.and_then(|pid| i32::try_from(pid).ok())) else { return };
        let joined = tokio::task::spawn_blocking(move || cgroup.add(pid)).await;
        if let Ok(Err(error)) = joined {
            tracing::warn!(error = %chain(&error), "a forwarder of host ports stays in the daemon's cgroup");
        }
    }
}

/// The first line of what it says.
async fn words(stdout: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut line = String::new();
    // What cannot be read was not said.
    let _ = BufReader::new(stdout.take(MAX_WORDS)).read_line(&mut line).await;
    line.trim().to_owned()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostPortError> + Send + 'static,
) -> Result<T, HostPortError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(HostPortError::ShuttingDown))
}
