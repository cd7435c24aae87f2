//! The RPCs over real parts, but for the supervisor: [`fake_supervisor`] runs `sleep` where ours runs wasm. Records, cgroups, overlay
//! mounts, the image store and a pull from a registry ([`tiny_registry`]) are the real ones.

mod documented;
mod fake_supervisor;
mod lifecycle;
mod restart;
mod tiny_registry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use images::{CodeReport, CompileError, Compiler, Images};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Status};

use super::Service;
use crate::cgroup::{CgroupPath, Cgroups};
use crate::config::Config;
use crate::host::{Host, HostConfig};
use crate::network::host_port::HostPorts;
use crate::network::{Network, NetworkConfig};
use crate::proto::runtime::v1 as cri;
use crate::proto::runtime::v1::image_service_server::ImageService;
use crate::proto::runtime::v1::runtime_service_server::RuntimeService;
use crate::state::{Parts, Runtime};
use fake_supervisor::FakeSupervisor;
use tiny_registry::TinyRegistry;

/// Whether this machine can run these tests; says so by name if not.
fn can_run(test: &str) -> bool {
    let can = rustix::process::geteuid().is_root();
    assert!(can || std::env::var_os("CRI_WASM_REQUIRE_ALL").is_none(), "{test} needs root");
    if !can {
        eprintln!("skipped: {test}: needs root");
    }
    can
}

/// Takes every file for a WASI command.
struct NoCompiler;

impl Compiler for NoCompiler {
    fn fingerprint(&self) -> String {
        "none".to_owned()
    }

    fn compile(&self, _: PathBuf, output: PathBuf) -> Pin<Box<dyn Future<Output = Result<CodeReport, CompileError>> + Send>> {
        Box::pin(async move {
            std::fs::write(output, "code").map_err(|error| CompileError::Failed(error.to_string()))?;
            Ok(CodeReport { kind: "module".into(), world: "command".into(), wasi: "p1".into(), imports: Vec::new() })
        })
    }
}

/// A node with a supervisor, a registry and, between [`Node::start`] and [`Node::stop`], a daemon.
struct Node {
    place: tempfile::TempDir,
    config: Config,
    registry: TinyRegistry,
    _supervisor: FakeSupervisor,
    cgroups: Cgroups,
    daemon: Option<Daemon>,
}

struct Daemon {
    service: Service,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Node {
    async fn new() -> Self {
        // Overlayfs takes no overlay as its upper layer, which /tmp may be.
        let place = tempfile::tempdir_in(std::env::var("CRI_WASM_TEST_DIR").unwrap_or("/var/tmp".into())).unwrap();
        let mut config = Config { root: place.path().join("root"), state: place.path().join("state"), ..Config::default() };
        config.network.conf_dir = place.path().join("cni");
        let unique = place.path().file_name().unwrap().to_string_lossy().replace('.', "");
        config.cgroup.default_parent = format!("/cri-wasm-test-{unique}");
        std::fs::create_dir_all(config.state.join("guests")).unwrap();
        let supervisor = FakeSupervisor::start(&config.state);
        let registry = TinyRegistry::start().await;
        let mut node =
            Self { place, config, registry, _supervisor: supervisor, cgroups: Cgroups::detect().unwrap(), daemon: None };
        node.start().await;
        node
    }

    async fn start(&mut self) {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let host = HostConfig { state: self.config.state.clone(), program: "/nonexistent".into(), cgroup: None };
        let mut images = images::Config::new(self.config.root.join("images"));
        images.insecure_registries = vec!["127.0.0.1".to_owned()];
        let network = NetworkConfig {
            conf_dir: self.config.network.conf_dir.clone(),
            cache_dir: self.config.cni_cache_dir(),
            netns_dir: self.config.netns_dir(),
            ..NetworkConfig::default()
        };
        let parts = Parts {
            config: self.config.clone(),
            images: Images::open(images, Arc::new(NoCompiler)).await.unwrap(),
            network: Network::new(network).unwrap(),
            host_ports: HostPorts { program: "/nonexistent".into(), cgroup: None },
            cgroups: self.cgroups.clone(),
            host: Host::open(host, stop.clone(), tasks.clone()).await.unwrap(),
        };
        let service = Service { runtime: Runtime::open(parts).await.unwrap() };
        self.daemon = Some(Daemon { service, stop, tasks });
    }

    /// Ends the daemon. Nothing of a pod may depend on how.
    async fn stop(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.service.runtime.shutdown(Duration::from_secs(5)).await;
        daemon.stop.cancel();
        daemon.tasks.close();
        daemon.tasks.wait().await;
        // The store is locked until its last user has gone.
        assert_eq!(Arc::strong_count(&daemon.service.runtime), 1, "something of the daemon goes on");
    }

    fn service(&self) -> &Service {
        &self.daemon.as_ref().unwrap().service
    }

    fn runtime(&self) -> &Arc<Runtime> {
        &self.service().runtime
    }

    /// Pulls an artifact and returns its id.
    async fn pull(&self) -> String {
        let reference = self.registry.add("app", b"\0asm\x01\0\0\0");
        let request = cri::PullImageRequest { image: Some(spec(&reference)), ..Default::default() };
        self.service().pull_image(Request::new(request)).await.unwrap().into_inner().image_ref
    }

    async fn run_pod(&self, name: &str) -> Result<String, Status> {
        let request = cri::RunPodSandboxRequest { config: Some(pod(name, self.place.path())), ..Default::default() };
        self.service().run_pod_sandbox(Request::new(request)).await.map(|answer| answer.into_inner().pod_sandbox_id)
    }

    async fn create(&self, pod: &str, config: cri::ContainerConfig) -> Result<String, Status> {
        let request = cri::CreateContainerRequest { pod_sandbox_id: pod.into(), config: Some(config), sandbox_config: None };
        self.service().create_container(Request::new(request)).await.map(|answer| answer.into_inner().container_id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Status> {
        let request = cri::StartContainerRequest { container_id: id.into() };
        self.service().start_container(Request::new(request)).await.map(drop)
    }

    async fn stop_container(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = cri::StopContainerRequest { container_id: id.into(), timeout };
        self.service().stop_container(Request::new(request)).await.map(drop)
    }

    async fn remove_container(&self, id: &str) -> Result<(), Status> {
        let request = cri::RemoveContainerRequest { container_id: id.into() };
        self.service().remove_container(Request::new(request)).await.map(drop)
    }

    async fn stop_pod(&self, id: &str) -> Result<(), Status> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.service().stop_pod_sandbox(Request::new(request)).await.map(drop)
    }

    async fn remove_pod(&self, id: &str) -> Result<(), Status> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.service().remove_pod_sandbox(Request::new(request)).await.map(drop)
    }

    async fn status(&self, id: &str) -> Result<cri::ContainerStatus, Status> {
        let request = cri::ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.service().container_status(Request::new(request)).await.map(|answer| answer.into_inner().status.unwrap())
    }

    /// The container's state, once it is this one or ten seconds have passed.
    async fn wait_for(&self, id: &str, state: cri::ContainerState) -> cri::ContainerStatus {
        for _ in 0..1000 {
            let status = self.status(id).await.unwrap();
            if status.state() == state {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the container is not {state:?}: {:?}", self.status(id).await)
    }

    async fn pods(&self, filter: cri::PodSandboxFilter) -> Vec<String> {
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        let answer = self.service().list_pod_sandbox(Request::new(request)).await.unwrap().into_inner();
        answer.items.into_iter().map(|item| item.id).collect()
    }

    async fn containers(&self, filter: cri::ContainerFilter) -> Vec<String> {
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let answer = self.service().list_containers(Request::new(request)).await.unwrap().into_inner();
        answer.containers.into_iter().map(|container| container.id).collect()
    }

    /// Nothing is left of any pod: no record, file, guest or cgroup.
    async fn assert_empty(&self) {
        let names = |path: PathBuf| -> Vec<String> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        for path in ["state/sandboxes", "state/containers", "state/guests", "root/containers"] {
            assert_eq!(names(self.place.path().join(path)), Vec::<String>::new(), "{path}");
        }
        assert!(self.runtime().store.load::<crate::sandbox::SandboxRecord>().unwrap().is_empty());
        assert!(self.runtime().store.load::<crate::container::ContainerRecord>().unwrap().is_empty());
        let parent = CgroupPath::from_cri(&self.config.cgroup.default_parent).unwrap();
        // A directory that has others in it cannot be removed.
        self.cgroups.open(&parent).remove().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(parent) = CgroupPath::from_cri(&self.config.cgroup.default_parent) {
            let _ = self.cgroups.open(&parent).remove();
        }
    }
}

fn spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: image.to_owned(), ..Default::default() }
}

/// A pod on the node's network.
fn pod(name: &str, place: &Path) -> cri::PodSandboxConfig {
    let options = cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() };
    let security_context = cri::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata { name: name.into(), uid: "u".into(), namespace: "default".into(), attempt: 0 }),
        log_directory: place.join("logs").to_string_lossy().into_owned(),
        labels: [("pod".to_owned(), name.to_owned())].into(),
        annotations: BTreeMap::from([("note".to_owned(), "kept".to_owned())]).into_iter().collect(),
        linux: Some(cri::LinuxPodSandboxConfig { security_context: Some(security_context), ..Default::default() }),
        ..Default::default()
    }
}

fn container(name: &str, image: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(spec(image)),
        labels: [("container".to_owned(), name.to_owned())].into(),
        log_path: format!("{name}.log"),
        ..Default::default()
    }
}
