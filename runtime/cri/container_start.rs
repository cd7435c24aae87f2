//! StartContainer: cgroup → launch → running. The guest's end is told by its supervisor.

use std::path::Path;
use std::sync::Arc;

use images::CodeReport;
use tracing::Instrument;
use wasm_host::protocol::{CodeKind, GuestSpec, HttpService};

use super::error::Error;
use crate::cgroup::{Limits, driver};
use crate::config::Config;
use crate::container::launch::{self, LaunchPlan, Pids};
use crate::container::{
    Container, ContainerEvent, ContainerMetadata, ContainerState, Exit, ResolvedMount, Resources, bind::MountPlan, directory,
    forbidden, service, spec, tuning,
};
use crate::host::Process;
use crate::proto::runtime::v1::{StartContainerRequest, StartContainerResponse};
use crate::sandbox::{NamespaceMode, Sandbox, init, ipc, network, userns};
use crate::state::Runtime;
use crate::store::chain;

pub(super) async fn start(runtime: Arc<Runtime>, request: StartContainerRequest) -> Result<StartContainerResponse, Error> {
    let container = runtime.containers.find(&request.container_id).map_err(Error::lookup("container", &request.container_id))?;
    let task = Arc::clone(&runtime);
    runtime.run_to_end(async move { run(&task, &container).await }).await??;
    Ok(StartContainerResponse {})
}

async fn run(runtime: &Runtime, container: &Arc<Container>) -> Result<(), Error> {
    let sandbox_id = container.metadata().sandbox.as_str();
    let sandbox = runtime.sandboxes.find(sandbox_id).map_err(Error::lookup("sandbox", sandbox_id))?;
    // In this order, as RemovePodSandbox takes them.
    let _sandbox = sandbox.operation.read().await;
    let _operation = container.operation.lock().await;
    // A wrong state of the container is told before one of the sandbox: it is what the caller asked about.
    if container.state() == ContainerState::Created {
        super::container_create::require_ready(&sandbox)?;
    }
    runtime.change_container(container, ContainerEvent::Start)?;
    match launch(runtime, container, &sandbox).await {
        Ok(process) => {
            let pid = process.pid;
            launch::set_oom_score(container, &process);
            runtime.change_container(container, ContainerEvent::Started(process))?;
            tracing::info!(container = %container.id(), pid, "the guest runs");
            Ok(())
        }
        Err(error) => {
            // Whatever may have been started nevertheless, by a launch that was not answered in time, dies with its cgroup.
            crate::events::release_cgroup(runtime, container).await;
            crate::events::apply(runtime, container, Exit::start_failed(wasm_host::protocol::now(), chain(&error)));
            Err(error)
        }
    }
}

async fn launch(runtime: &Runtime, container: &Container, sandbox: &Sandbox) -> Result<Process, Error> {
    let metadata = container.metadata();
    let code = runtime.images.code(&metadata.process.module_digest).instrument(tracing::debug_span!("code")).await?;
    let mut spec = spec::guest_spec(metadata, sandbox.metadata(), &runtime.config);
    let handler = &sandbox.metadata().config.handler;
    let invoked = tuning::invoked(&metadata.config, sandbox.metadata()).is_some();
    spec.set_kind(code_kind(&runtime.config, handler, &metadata.process.module, &code.report, invoked)?);
    tune(runtime, metadata, sandbox, &mut spec)?;
    if spec.kind() == CodeKind::ModuleCommand {
        spec.listeners = service::listeners(&metadata.config, &sandbox.metadata().config);
    }
    if spec.kind() == CodeKind::ComponentHttp {
        spec.http = Some(served(runtime, metadata, sandbox, &container.resources().unwrap_or_default())?);
    }
    let pids = if spec.procfs { pids(runtime, metadata, sandbox).await? } else { Pids::Node };
    let cgroup = runtime.cgroup_of(container);
    let mut made = None;
    if let Some(cgroup) = cgroup.clone() {
        let cgroups = runtime.cgroups.clone();
        let most = runtime.config.cgroup.max_tasks;
        let limits = Limits { pids: (most > 0).then_some(most.into()), ..container.resources().unwrap_or_default().limits() };
        let make = tokio::task::spawn_blocking(move || cgroups.make(cgroup.path(), &limits)).await;
        made = Some(make.map_err(|_| Error::Unavailable("the daemon is shutting down".to_owned()))??);
    }
    let host_network = sandbox.metadata().config.host_network();
    let plan = LaunchPlan {
        guest: metadata.id.to_string(),
        spec,
        code: code.path,
        lower_dirs: metadata.lower_dirs.clone(),
        writable_dir: directory(&runtime.config.root, &metadata.id),
        mount_points: runtime.config.root.join("mount-points"),
        mounts: metadata.mounts.iter().map(mount).collect(),
        log_path: metadata.log_path.clone(),
        netns: if host_network { None } else { Some(network::namespace(runtime, sandbox.metadata())) },
        users: sandbox.metadata().config.user_namespace.map(|ids| (userns::namespace(&runtime.config, sandbox.metadata()), ids)),
        ipc: sandbox.status().held.ipc.then(|| ipc::namespace(&runtime.config, sandbox.metadata())),
        cgroup,
        stdin_fifo: container.stdin_fifo(&runtime.config.state),
        tty: metadata.config.tty,
        devices: runtime.config.root.join("devices"),
        empty: runtime.config.root.join("empty"),
        pids,
    };
    let launched = launch::launch(&runtime.host, plan).await;
    driver::release(made).await;
    Ok(launched?)
}

/// What people ask of a guest while they work on it.
pub(super) fn tune(
    runtime: &Runtime,
    container: &ContainerMetadata,
    sandbox: &Sandbox,
    spec: &mut GuestSpec,
) -> Result<(), Error> {
    let handler = runtime.config.handlers.get(&sandbox.metadata().config.handler).cloned().unwrap_or_default();
    tuning::add_to(spec, &container.config, sandbox.metadata(), &handler).map_err(|error| Error::Invalid(error.to_string()))
}

/// How a component that answers HTTP requests is served.
pub(super) fn served(
    runtime: &Runtime,
    container: &ContainerMetadata,
    sandbox: &Sandbox,
    resources: &Resources,
) -> Result<HttpService, Error> {
    let of_pod = &sandbox.metadata().config;
    let handler = runtime.config.handlers.get(&of_pod.handler).cloned().unwrap_or_default();
    service::http(&container.config, of_pod, &container.process.env, resources, &handler)
        .map_err(|error| Error::Invalid(error.to_string()))
}

/// CRI's NamespaceOption.pid.
async fn pids(runtime: &Runtime, metadata: &ContainerMetadata, sandbox: &Sandbox) -> Result<Pids, Error> {
    Ok(match metadata.config.pid {
        NamespaceMode::Node => Pids::Node,
        NamespaceMode::Container => Pids::Own,
        NamespaceMode::Pod => Pids::Of(init::ensure(runtime, sandbox).await?),
        NamespaceMode::Target => {
            let id = metadata.config.pid_target.as_str();
            let target = runtime.containers.find(id).map_err(Error::lookup("container", id))?;
            if target.metadata().sandbox != metadata.sandbox {
                return Err(Error::Invalid(format!("the container {id} whose PID namespace is to be shared is of another pod")));
            }
            let process = target.status().process.filter(|_| target.state() == ContainerState::Running);
            let process = process.ok_or_else(|| {
                Error::Precondition(format!("the container {id} whose PID namespace is to be shared does not run"))
            })?;
            Pids::Of(process)
        }
    })
}

/// How the code is run; refused where there is nothing to run in it, or where the pod's handler forbids what it imports.
pub(super) fn code_kind(
    config: &Config,
    handler: &str,
    module: &Path,
    report: &CodeReport,
    invoked: bool,
) -> Result<CodeKind, Error> {
    let refused = |reason: String| Error::Precondition(format!("{}: {reason}", module.display()));
    let kind = launch::code_kind(report, invoked).map_err(refused)?;
    if let Some(settings) = config.handlers.get(handler) {
        forbidden::check(report, handler, settings).map_err(|error| refused(error.to_string()))?;
    }
    Ok(kind)
}

fn mount(mount: &ResolvedMount) -> MountPlan {
    MountPlan {
        layers: mount.image.as_ref().map(|image| image.places.clone()).unwrap_or_default(),
        host_path: mount.host_path.clone(),
        container_path: mount.container_path.clone(),
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_readonly,
        propagation: mount.propagation.into(),
        id_mapped: mount.id_mapped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Handler;

    #[test]
    fn what_cannot_be_run_and_what_the_handler_forbids_is_refused() {
        let mut config = Config::default();
        let strict = Handler { forbidden_interfaces: vec!["wasi:sockets".to_owned()], ..Handler::default() };
        config.handlers.insert("strict".to_owned(), strict);
        let refused = |handler: &str, world: &str| {
            let imports = vec!["wasi:cli/environment@0.2.0".to_owned(), "wasi:sockets/tcp@0.2.0".to_owned()];
            let report = CodeReport { kind: "component".into(), world: world.into(), wasi: "p2".into(), imports };
            code_kind(&config, handler, Path::new("/a.wasm"), &report, false).err()
        };
        assert_eq!(refused("wasm", "reactor").unwrap().code(), tonic::Code::FailedPrecondition);
        assert!(refused("wasm", "command").is_none() && refused("gone", "command").is_none());
        let error = refused("strict", "command").unwrap();
        assert_eq!(error.code(), tonic::Code::FailedPrecondition);
        let expected = "/a.wasm: it imports wasi:sockets/tcp@0.2.0, which the runtime handler \"strict\" forbids";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
