//! The host ports of a sandbox whose CNI network maps none: a forwarder as long as the sandbox is ready.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::metadata::SandboxMetadata;
use super::{Sandbox, SandboxState, files, network};
use crate::network::host_port::{HostPortError, HostPorts, Plan};
use crate::state::Runtime;
use crate::store::chain;

/// Between attempts to replace a forwarder that has died.
const PAUSE: Duration = Duration::from_secs(2);

/// The file by which the forwarder is found.
pub fn file(runtime: &Runtime, metadata: &SandboxMetadata) -> PathBuf {
    files::directory(&runtime.config.state, &metadata.id).join("ports")
}

/// Whether any port is to be reached from outside. In the node's network a port is the node's anyhow.
pub fn are_published(metadata: &SandboxMetadata) -> bool {
    !metadata.config.host_network() && metadata.config.ports.iter().any(|port| port.host_port.is_some())
}

/// Starts the forwarder.
pub async fn forward(runtime: &Runtime, sandbox: &Sandbox) -> Result<(), HostPortError> {
    let metadata = sandbox.metadata();
    let addresses = sandbox.status().addresses.unwrap_or_default();
    let plan = Plan {
        file: file(runtime, metadata),
        netns: network::namespace(runtime, metadata),
        addresses: std::iter::once(&addresses.ip).chain(&addresses.additional).filter_map(|ip| ip.parse().ok()).collect(),
        ports: metadata.config.ports.iter().filter_map(network::port_mapping).collect(),
    };
    runtime.host_ports.start(&plan).await
}

/// Replaces the forwarder whenever it has gone by itself, in the background, as long as the sandbox is ready and has one.
pub fn keep(runtime: &Arc<Runtime>, sandbox: &Arc<Sandbox>) {
    if !is_needed(sandbox) {
        return;
    }
    let (task, sandbox) = (Arc::clone(runtime), Arc::clone(sandbox));
    runtime.spawn(async move {
        let stop = task.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = watch(&task, &sandbox) => {}
        }
    });
}

fn is_needed(sandbox: &Sandbox) -> bool {
    let status = sandbox.status();
    status.state == SandboxState::Ready && status.held.ports
}

async fn watch(runtime: &Runtime, sandbox: &Sandbox) {
    let file = file(runtime, sandbox.metadata());
    let mut told = false;
    loop {
        HostPorts::ended(&file).await;
        // Whoever stops the sandbox holds this until it is stopped, and has ended the forwarder meanwhile.
        let _operation = sandbox.operation.read().await;
        if !is_needed(sandbox) {
            return;
        }
        match forward(runtime, sandbox).await {
            Ok(()) => {
                tracing::warn!(sandbox = %sandbox.id(), "the forwarder of its host ports had gone; another one runs");
                told = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(sandbox = %sandbox.id(), error = %chain(&error), "its host ports are not forwarded");
                }
                drop(_operation);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
