//! RunPodSandbox: name reserved → record → cgroup → network namespace → CNI → files → ready.
//!
//! The record says what is about to be acquired before it is, so whatever fails or is killed half-way is given back from the
//! record.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::error::Error;
use super::request_sandbox;
use crate::network::netns;
use crate::proto::runtime::v1::{RunPodSandboxRequest, RunPodSandboxResponse};
use crate::sandbox::network::{self, Connected};
use crate::sandbox::{
    Held, Sandbox, SandboxConfig, SandboxEvent, SandboxMetadata, SandboxState, files, ipc, ports, release, sysctls, userns,
};
use crate::state::Runtime;
use crate::store::{Reservation, Reserve, SandboxId, chain};

/// How long giving back after a failure may take.
const UNDO_DEADLINE: Duration = Duration::from_secs(60);

pub(super) async fn run(runtime: Arc<Runtime>, request: RunPodSandboxRequest) -> Result<RunPodSandboxResponse, Error> {
    let config = request_sandbox::config(request.config, request.runtime_handler)?;
    check_handler(&runtime, &config.handler)?;
    let name = config.name.to_string();
    loop {
        match runtime.sandbox_names.reserve(&name) {
            Reserve::Reserved(reservation) => {
                let creation = create(Arc::clone(&runtime), config, reservation);
                let id = runtime.run_to_end(creation).await??;
                runtime.sandbox_names.claim(&name);
                return Ok(RunPodSandboxResponse { pod_sandbox_id: id.to_string() });
            }
            Reserve::InProgress(pending) => pending.wait().await,
            Reserve::Unclaimed(id) => {
                let same = |sandbox: &Arc<Sandbox>| sandbox.metadata().config == config && sandbox.state() == SandboxState::Ready;
                if !runtime.sandboxes.find(&id).is_ok_and(|sandbox| same(&sandbox)) {
                    return Err(Error::NameTaken { what: "sandbox", name, id });
                }
                tracing::info!(sandbox = id, "a sandbox made for a caller that went away is handed to its retry");
                runtime.sandbox_names.claim(&name);
                return Ok(RunPodSandboxResponse { pod_sandbox_id: id });
            }
            Reserve::Taken(id) => return Err(Error::NameTaken { what: "sandbox", name, id }),
        }
    }
}

fn check_handler(runtime: &Runtime, handler: &str) -> Result<(), Error> {
    let handlers = &runtime.config.handlers;
    if handlers.contains_key(handler) {
        return Ok(());
    }
    let known: Vec<String> = handlers.keys().map(|name| format!("{name:?}")).collect();
    Err(Error::Invalid(format!("there is no runtime handler {handler:?}; this runtime has {}", known.join(", "))))
}

async fn create(runtime: Arc<Runtime>, config: SandboxConfig, reservation: Reservation) -> Result<SandboxId, Error> {
    let host_network = config.host_network();
    if !host_network {
        network_is_ready(&runtime).await?;
    }
    if config.user_namespace.is_some() {
        let why = |reason| Error::Precondition(format!("pods with hostUsers: false cannot run on this node: {reason}"));
        runtime.user_namespaces.look(&runtime.config).await.map_err(why)?;
    }
    let id = SandboxId::generate();
    let (cgroup_parent, cgroup_owned) = runtime.cgroup_parent(&config.cgroup_parent, id.as_str())?;
    let metadata = SandboxMetadata {
        id: id.clone(),
        created_at: wasm_host::protocol::now(),
        cgroup_parent: cgroup_parent.to_string(),
        cgroup_owned,
        hostname: files::effective_hostname(&config.hostname),
        config,
    };
    let ipc = ipc::is_needed(&runtime.config, &metadata.config);
    let users = metadata.config.user_namespace.is_some();
    let held = Held { files: true, netns: !host_network, network: !host_network, ports: false, cgroup: cgroup_owned, ipc, users };
    // The network is attached as the last but one, and until then there is nothing to detach.
    let sandbox = Sandbox::create(metadata, Held { network: false, ..held }, Arc::clone(&runtime.store))?;
    match acquire(&runtime, &sandbox, held).await {
        Ok(()) => {
            runtime.add_sandbox(&sandbox);
            reservation.commit(id.as_str());
            ports::keep(&runtime, &sandbox);
            tracing::info!(sandbox = %id, name = %sandbox.metadata().config.name, "the sandbox is ready");
            Ok(id)
        }
        Err(error) => {
            if let Err(undo) = release::undo(&runtime, &sandbox, UNDO_DEADLINE).await {
                // Listed as not ready, so that the kubelet removes it; its name stays taken until then.
                tracing::error!(sandbox = %id, error = %chain(&undo), "a failed sandbox is not given back; it stays listed");
                runtime.add_sandbox(&sandbox);
                reservation.commit(id.as_str());
            }
            Err(error)
        }
    }
}

async fn network_is_ready(runtime: &Runtime) -> Result<(), Error> {
    let mut status = runtime.network.status();
    if !status.ready {
        // The daemon may have just started, or the configuration may have just come.
        if let Err(error) = runtime.network.refresh().await {
            tracing::debug!(error = %chain(&error), "the network was asked again");
        }
        status = runtime.network.status();
    }
    if status.ready { Ok(()) } else { Err(Error::Unavailable(format!("network is not ready: {}", status.message))) }
}

async fn acquire(runtime: &Runtime, sandbox: &Arc<Sandbox>, mut held: Held) -> Result<(), Error> {
    let metadata = sandbox.metadata();
    let (at_once, of_interfaces) = sysctls::of_the_network(&metadata.config.sysctls);
    let cgroup = runtime.cgroup_of_sandbox(sandbox);
    let cgroups = runtime.cgroups.clone();
    let limits = metadata.config.resources.limits();
    let namespace = held.netns.then(|| (runtime.config.netns_dir(), netns::name(metadata.id.as_str())));
    let users = metadata.config.user_namespace.map(|mapping| (userns::namespace(&runtime.config, metadata), mapping));
    let ipc = held.ipc.then(|| (ipc::namespace(&runtime.config, metadata), sysctls::of_ipc(&metadata.config.sysctls)));
    blocking(move || {
        if let Some(cgroup) = cgroup {
            let _ = cgroups.make(cgroup.path(), &limits)?;
        }
        match (users, namespace) {
            (Some((path, mapping)), network) => userns::create(&path, &mapping, network.is_some(), |namespaces| {
                let Some((directory, name)) = network else { return Ok::<_, Error>(()) };
                netns::adopt(&directory, &name, &at_once, &namespaces.join("net"))?;
                Ok(())
            })?,
            (None, Some((directory, name))) => {
                netns::create(&directory, &name, &at_once)?;
            }
            (None, None) => {}
        }
        if let Some((path, settings)) = ipc {
            ipc::create(&path, &settings)?;
        }
        Ok(())
    })
    .instrument(tracing::debug_span!("namespace and cgroup"))
    .await?;

    let mut connected = Connected::default();
    if held.network {
        runtime.change_sandbox(sandbox, SandboxEvent::Holds(held))?;
        let added = runtime.network.add(&network::describe(runtime, metadata)).instrument(tracing::debug_span!("CNI")).await;
        // What failed was taken back then and there. To detach it once more would fail for the same plugin, and keep the pod listed.
        if added.is_err() && matches!(runtime.network.is_on_record(metadata.id.as_str()).await, Ok(false)) {
            runtime.change_sandbox(sandbox, SandboxEvent::Holds(Held { network: false, ..held }))?;
        }
        let attachment = added?;
        connected = network::connected(&attachment);
        runtime.change_sandbox(sandbox, SandboxEvent::Connected(connected.addresses.clone()))?;
        if !of_interfaces.is_empty() {
            let path = network::namespace(runtime, metadata);
            blocking(move || Ok(netns::set_sysctls(&path, &of_interfaces)?)).await?;
        }
        if !attachment.maps_ports && ports::are_published(metadata) {
            held.ports = true;
            runtime.change_sandbox(sandbox, SandboxEvent::Holds(held))?;
            ports::forward(runtime, sandbox).await?;
        }
    }
    let state = runtime.config.state.clone();
    let sandbox_of_files = Arc::clone(sandbox);
    blocking(move || {
        let addresses = sandbox_of_files.status().addresses;
        Ok(files::create(&state, sandbox_of_files.metadata(), addresses.as_ref(), Some(&connected.dns))?)
    })
    .await?;
    runtime.change_sandbox(sandbox, SandboxEvent::Created)?;
    Ok(())
}

async fn blocking(work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Error::Unavailable("the daemon is shutting down".to_owned())),
    }
}
