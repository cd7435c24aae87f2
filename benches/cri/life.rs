//! A pod's life in CRI calls, as a kubelet makes them, and what each took.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cri_wasm::proto::runtime::v1 as cri;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify;

use crate::client::{block_on, check_interrupted};
use crate::node::Node;

/// Longest wait for a first line.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose network a pod uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The daemon's.
    Node,
    /// Its own, attached by CNI.
    Cni,
}

/// A pod with one running container.
#[derive(Debug, Clone)]
pub struct Pod {
    /// The sandbox's id.
    pub id: String,
    /// The container's id.
    pub container: String,
}

/// How long the beginning took.
#[derive(Debug)]
pub struct Launch {
    pub run: Duration,
    pub create: Duration,
    pub start: Duration,
    /// From before RunPodSandbox until the log file has a line.
    pub first_line: Duration,
}

/// How long the end took.
#[derive(Debug)]
pub struct End {
    pub stop_container: Duration,
    pub stop_pod: Duration,
    pub remove_container: Duration,
    pub remove_pod: Duration,
}

/// What is prepared before the clock runs.
#[derive(Debug)]
pub struct Prepared {
    sandbox: cri::PodSandboxConfig,
    container: cri::ContainerConfig,
    /// Where the guest's output goes.
    pub log: PathBuf,
}

impl Node {
    /// Configurations of a new pod, with all that a kubelet gives to each: a cgroup, limits, two files to mount, a log directory.
    pub fn prepare(&mut self, network: Network, image: &str) -> anyhow::Result<Prepared> {
        self.serial += 1;
        let name = format!("pod-{}", self.serial);
        let logs = self.logs.join(&name);
        std::fs::create_dir_all(&logs)?;
        let mode = if network == Network::Node { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod };
        let namespaces = cri::NamespaceOption {
            network: mode.into(),
            pid: cri::NamespaceMode::Container.into(),
            ..cri::NamespaceOption::default()
        };
        let sandbox = cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.clone(),
                uid: name.clone(),
                namespace: "bench".to_owned(),
                attempt: 0,
            }),
            hostname: if network == Network::Node { String::new() } else { name.clone() },
            log_directory: logs.display().to_string(),
            labels: [
                ("io.kubernetes.pod.name", name.as_str()),
                ("io.kubernetes.pod.namespace", "bench"),
                ("io.kubernetes.pod.uid", &name),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: self.pods_cgroup.clone(),
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces.clone()),
                    ..cri::LinuxSandboxSecurityContext::default()
                }),
                ..cri::LinuxPodSandboxConfig::default()
            }),
            ..cri::PodSandboxConfig::default()
        };
        let mount = |(from, to): &(PathBuf, &str)| cri::Mount {
            host_path: from.display().to_string(),
            container_path: (*to).to_owned(),
            ..cri::Mount::default()
        };
        let container = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(cri::ImageSpec { image: image.to_owned(), ..cri::ImageSpec::default() }),
            log_path: "main.log".to_owned(),
            labels: sandbox.labels.clone(),
            mounts: self.mounts.iter().map(mount).collect(),
            linux: Some(cri::LinuxContainerConfig {
                resources: Some(cri::LinuxContainerResources {
                    cpu_shares: 2,
                    memory_limit_in_bytes: 64 << 20,
                    oom_score_adj: 1000,
                    ..cri::LinuxContainerResources::default()
                }),
                security_context: Some(cri::LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces),
                    ..cri::LinuxContainerSecurityContext::default()
                }),
            }),
            ..cri::ContainerConfig::default()
        };
        Ok(Prepared { sandbox, container, log: logs.join("main.log") })
    }

    /// Runs a pod until its first line.
    pub fn launch_pod(&mut self, network: Network) -> anyhow::Result<(Pod, Launch)> {
        let image = self.image.clone();
        let prepared = self.prepare(network, &image)?;
        let lines = FirstLine::watch(&prepared.log)?;
        let begin = Instant::now();
        let (pod, [run, create, start]) = block_on(self.run_later(&prepared))??;
        lines.wait(begin)?;
        Ok((pod, Launch { run, create, start, first_line: begin.elapsed() }))
    }

    /// The three calls that begin a pod, with what each took.
    pub async fn run_later(&self, prepared: &Prepared) -> anyhow::Result<(Pod, [Duration; 3])> {
        let begin = Instant::now();
        let config = Some(prepared.sandbox.clone());
        let request = cri::RunPodSandboxRequest { config, runtime_handler: String::new() };
        let id = self.client.run_pod_sandbox(request).await?.pod_sandbox_id;
        let run = begin.elapsed();
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: id.clone(),
            config: Some(prepared.container.clone()),
            sandbox_config: Some(prepared.sandbox.clone()),
        };
        let container = self.client.create_container(request).await?.container_id;
        let create = begin.elapsed();
        self.client.start_container(cri::StartContainerRequest { container_id: container.clone() }).await?;
        let start = begin.elapsed();
        Ok((Pod { id, container }, [run, create - run, start - create]))
    }

    /// Stops and removes a pod, call by call.
    pub fn end_pod(&self, pod: &Pod) -> anyhow::Result<End> {
        let mut last = Instant::now();
        let mut lap = || std::mem::replace(&mut last, Instant::now()).elapsed();
        // The grace period that pods have unless they say otherwise. A command ends at once.
        self.client.stop_container(cri::StopContainerRequest { container_id: pod.container.clone(), timeout: 30 })?;
        let stop_container = lap();
        self.client.stop_pod_sandbox(cri::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() })?;
        let stop_pod = lap();
        self.client.remove_container(cri::RemoveContainerRequest { container_id: pod.container.clone() })?;
        let remove_container = lap();
        self.client.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() })?;
        let remove_pod = lap();
        Ok(End { stop_container, stop_pod, remove_container, remove_pod })
    }
}

/// Waits for a line in a log file that is not there yet.
#[derive(Debug)]
pub struct FirstLine {
    path: PathBuf,
    watch: rustix::fd::OwnedFd,
}

impl FirstLine {
    /// Begins to watch; the directory must be there.
    pub fn watch(path: &Path) -> anyhow::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, path.parent().context("a log has a directory")?, inotify::WatchFlags::MODIFY)?;
        Ok(Self { path: path.to_owned(), watch })
    }

    /// Returns as soon as the file has content.
    pub fn wait(&self, begin: Instant) -> anyhow::Result<()> {
        while std::fs::metadata(&self.path).map_or(0, |file| file.len()) == 0 {
            check_interrupted()?;
            if begin.elapsed() > PATIENCE {
                bail!("{} stayed empty for {} s", self.path.display(), PATIENCE.as_secs());
            }
            let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            let mut ready = [PollFd::new(&self.watch, PollFlags::IN)];
            match rustix::event::poll(&mut ready, Some(&second)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut events = [0; 4096];
            // What happened does not matter: the file is looked at again.
            let _ = rustix::io::read(&self.watch, &mut events);
        }
        Ok(())
    }
}
