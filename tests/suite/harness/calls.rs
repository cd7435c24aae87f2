//! The calls of the CRI as tests make them: by name, with an expectation where the test has no other.

use std::path::{Path, PathBuf};

use cri::{ContainerConfig, ContainerState, ContainerStatus, PodSandboxConfig};
use cri_wasm::proto::runtime::v1 as cri;
use tonic::Status;

use super::leak;
use super::log::Log;
use super::node::Node;
use super::process::Process;
use super::wait::{eventually, until};

/// A pod that was run.
#[derive(Debug, Clone)]
pub struct Pod {
    pub id: String,
    pub config: PodSandboxConfig,
}

/// A container that has come to its end.
#[derive(Debug)]
pub struct Ended {
    pub status: ContainerStatus,
    pub log: Log,
}

impl Node {
    // Images.

    /// Pulls an image and returns what PullImage answers.
    pub fn pull(&self, reference: &str) -> Result<String, Status> {
        let request = cri::PullImageRequest { image: Some(image_spec(reference)), ..Default::default() };
        Ok(self.client.pull_image(request)?.image_ref)
    }

    /// What ImageStatus says.
    pub fn image(&self, reference: &str) -> Option<cri::Image> {
        let request = cri::ImageStatusRequest { image: Some(image_spec(reference)), verbose: false };
        self.client.image_status(request).expect("ImageStatus").image
    }

    /// ListImages.
    pub fn images(&self) -> Vec<cri::Image> {
        self.client.list_images(cri::ListImagesRequest { filter: None }).expect("ListImages").images
    }

    /// RemoveImage.
    pub fn remove_image(&self, reference: &str) -> Result<(), Status> {
        self.client.remove_image(cri::RemoveImageRequest { image: Some(image_spec(reference)) }).map(drop)
    }

    // Pods.

    /// Configuration of a pod in the node's network, with a log directory.
    pub fn pod_config(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("{}-{name}", self.place.name),
                namespace: "suite".to_owned(),
                attempt: 0,
            }),
            log_directory: self.place.directory(&format!("logs/{name}")).display().to_string(),
            linux: Some(cri::LinuxPodSandboxConfig {
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(network(cri::NamespaceMode::Node)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// RunPodSandbox.
    pub fn run_pod(&self, config: &PodSandboxConfig) -> Result<Pod, Status> {
        let request = cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let id = self.client.run_pod_sandbox(request)?.pod_sandbox_id;
        Ok(Pod { id, config: config.clone() })
    }

    /// A pod in the node's network.
    pub fn pod(&self, name: &str) -> Pod {
        self.run_pod(&self.pod_config(name)).expect("the pod runs")
    }

    /// StopPodSandbox.
    pub fn stop_pod(&self, id: &str) -> Result<(), Status> {
        self.client.stop_pod_sandbox(cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() }).map(drop)
    }

    /// RemovePodSandbox.
    pub fn remove_pod(&self, id: &str) -> Result<(), Status> {
        self.client.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() }).map(drop)
    }

    /// PodSandboxStatus.
    pub fn pod_status(&self, id: &str) -> Result<cri::PodSandboxStatus, Status> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        Ok(self.client.pod_sandbox_status(request)?.status.expect("a status"))
    }

    /// ListPodSandbox.
    pub fn pods(&self, filter: Option<cri::PodSandboxFilter>) -> Vec<cri::PodSandbox> {
        self.client.list_pod_sandbox(cri::ListPodSandboxRequest { filter }).expect("ListPodSandbox").items
    }

    // Containers.

    /// CreateContainer.
    pub fn create(&self, pod: &Pod, config: &ContainerConfig) -> Result<String, Status> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.config.clone()),
        };
        Ok(self.client.create_container(request)?.container_id)
    }

    /// StartContainer.
    pub fn start_container(&self, id: &str) -> Result<(), Status> {
        self.client.start_container(cri::StartContainerRequest { container_id: id.to_owned() }).map(drop)
    }

    /// Creates and starts a container.
    pub fn launch(&self, pod: &Pod, config: &ContainerConfig) -> String {
        let id = self.create(pod, config).expect("the container is created");
        self.start_container(&id).expect("the container starts");
        id
    }

    /// Creates and starts a container, and waits for its end.
    pub fn run(&self, pod: &Pod, config: &ContainerConfig) -> Ended {
        let id = self.launch(pod, config);
        self.wait_exit(&id)
    }

    /// StopContainer.
    pub fn stop_container(&self, id: &str, timeout: i64) -> Result<(), Status> {
        self.client.stop_container(cri::StopContainerRequest { container_id: id.to_owned(), timeout }).map(drop)
    }

    /// RemoveContainer.
    pub fn remove_container(&self, id: &str) -> Result<(), Status> {
        self.client.remove_container(cri::RemoveContainerRequest { container_id: id.to_owned() }).map(drop)
    }

    /// ContainerStatus.
    pub fn try_status(&self, id: &str) -> Result<ContainerStatus, Status> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        Ok(self.client.container_status(request)?.status.expect("a status"))
    }

    /// ContainerStatus of a container that is there.
    pub fn status(&self, id: &str) -> ContainerStatus {
        self.try_status(id).expect("ContainerStatus")
    }

    /// ListContainers.
    pub fn containers(&self, filter: Option<cri::ContainerFilter>) -> Vec<cri::Container> {
        self.client.list_containers(cri::ListContainersRequest { filter }).expect("ListContainers").containers
    }

    /// Waits until the container has exited.
    pub fn wait_exit(&self, id: &str) -> Ended {
        let status = eventually("the container exits", || {
            Some(self.status(id)).filter(|status| status.state() == ContainerState::ContainerExited)
        });
        let log = Log::read(Path::new(&status.log_path));
        Ended { status, log }
    }

    /// The log so far.
    pub fn log(&self, id: &str) -> Log {
        Log::read(Path::new(&self.status(id).log_path))
    }

    /// Waits until the container's stdout begins with a text.
    pub fn wait_stdout(&self, id: &str, text: &str) {
        let path = PathBuf::from(self.status(id).log_path);
        until(&format!("the log of the container says {text:?}"), || {
            // The last line may be half written.
            let bytes = std::fs::read(&path).unwrap_or_default();
            bytes.ends_with(b"\n") && Log::read(&path).stdout().starts_with(text)
        });
    }

    /// ExecSync, with its time limit in seconds.
    pub fn try_exec(&self, id: &str, command: &[&str], timeout: i64) -> Result<cri::ExecSyncResponse, Status> {
        let cmd = command.iter().map(|word| (*word).to_owned()).collect();
        self.client.exec_sync(cri::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout })
    }

    /// ExecSync, without a time limit.
    pub fn exec(&self, id: &str, command: &[&str]) -> cri::ExecSyncResponse {
        self.try_exec(id, command, 0).expect("ExecSync")
    }

    /// Processes of a container: its guest's, and those of commands that run in it.
    pub fn container_pids(&self, container: &str) -> Vec<i32> {
        let directories = leak::cgroups_of_container(&self.place, container);
        let read = |path: &PathBuf| std::fs::read_to_string(path.join("cgroup.procs")).ok();
        let text = directories.iter().filter_map(read).find(|text| !text.trim().is_empty()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Process id of a container's guest.
    pub fn guest_pid(&self, container: &str) -> i32 {
        let pids = self.container_pids(container);
        let [pid] = pids[..] else { panic!("a container is one process, not {pids:?}") };
        pid
    }

    /// Process of the only supervisor.
    pub fn supervisor(&self) -> Process {
        let found = leak::supervisors(&self.place);
        let [supervisor] = &found[..] else { panic!("one supervisor, not {found:?}") };
        supervisor.clone()
    }
}

/// An image by its name or id.
pub fn image_spec(reference: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: reference.to_owned(), ..Default::default() }
}

/// Namespaces of a pod, all as by default but for the network.
pub fn network(mode: cri::NamespaceMode) -> cri::NamespaceOption {
    cri::NamespaceOption { network: mode.into(), ..Default::default() }
}
