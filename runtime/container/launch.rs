//! Gathers what a guest's process needs, as descriptors, and has the supervisor start it.
//!
//! All that can be missing or forbidden is found here, by the daemon, so that the error names it and StartContainer tells it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use images::CodeReport;
use rustix::fs::{Mode, OFlags};
use thiserror::Error;
use wasm_host::protocol::{CodeKind, DescriptorKind, GuestSpec, MAX_DESCRIPTORS, Mount, PidNamespace, StreamKind};

use super::Container;
use super::bind::{self, MountPlan};
use super::pty::{self, Pty};
use super::{devices, mount_points, rootfs};
use crate::cgroup::{Cgroup, CgroupError};
use crate::host::{Host, HostError, Process};
use crate::network::netns::{self, NetnsError};
use crate::pinned::{self, PinError};
use crate::sandbox::UserNamespace;

/// Descriptors that are no mounts: specification, code, root, log, network, three streams, a terminal's two ends, OOM events, and a
/// dozen cgroups.
const OTHER_DESCRIPTORS: usize = 24;

/// Everything about a start that is not in the specification itself.
#[derive(Debug)]
pub struct LaunchPlan {
    /// Name of the guest: the container's id.
    pub guest: String,
    /// Its mounts and streams are filled in here.
    pub spec: GuestSpec,
    /// Compiled code, in the cache.
    pub code: PathBuf,
    /// Layers of the image, topmost first.
    pub lower_dirs: Vec<PathBuf>,
    /// Directory of the container that holds `upper` and `work`.
    pub writable_dir: PathBuf,
    /// Directory of the layers of mount points.
    pub mount_points: PathBuf,
    /// In the order in which they are mounted.
    pub mounts: Vec<MountPlan>,
    /// CRI log file; absent: output is discarded.
    pub log_path: Option<PathBuf>,
    /// Pinned network namespace; absent: the host's.
    pub netns: Option<PathBuf>,
    /// Pinned IPC namespace; absent: one of its own, or the host's.
    pub ipc: Option<PathBuf>,
    /// Pinned user namespace and its ids; absent: the host's.
    pub users: Option<(PathBuf, UserNamespace)>,
    /// Absent where the node has no cgroups.
    pub cgroup: Option<Cgroup>,
    /// FIFO that is the guest's standard input; absent: it is at its end from the start.
    pub stdin_fifo: Option<PathBuf>,
    /// The guest's streams are a terminal, which its own process serves.
    pub tty: bool,
    /// Directory of the layer of devices.
    pub devices: PathBuf,
    /// A directory that is, and stays, empty; made if it is not there.
    pub empty: PathBuf,
    /// The PID namespace that the guest is in.
    pub pids: Pids,
}

/// The PID namespace of a guest. One of its own, or shared, matters only to guests that see `/proc`.
#[derive(Debug, Clone)]
pub enum Pids {
    /// The node's.
    Node,
    /// One of its own.
    Own,
    /// That of this process.
    Of(Process),
}

impl Pids {
    fn kind(&self) -> PidNamespace {
        match self {
            Self::Node => PidNamespace::PidShared,
            Self::Own => PidNamespace::PidOwn,
            Self::Of(_) => PidNamespace::PidJoined,
        }
    }
}

/// A guest that could not be started; nothing of it is left.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// A file or mount of the container.
    #[error("{what} {path}", path = path.display())]
    Path {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// More mounts than descriptors fit into one message.
    #[error("{count} mounts are more than the {} that a container can have", MAX_DESCRIPTORS - OTHER_DESCRIPTORS)]
    TooManyMounts {
        /// As asked for.
        count: usize,
    },
    /// The process whose PID namespace it was to join has ended.
    #[error("the process {0} whose PID namespace is shared has ended")]
    PidTarget(i32),
    /// Its cgroup cannot be joined.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Its pod's network namespace has gone.
    #[error(transparent)]
    Network(#[from] NetnsError),
    /// Another of its pod's namespaces has gone.
    #[error(transparent)]
    Pinned(#[from] PinError),
    /// The supervisor or the guest's own process refused.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The daemon is ending.
    #[error("the daemon is shutting down")]
    Cancelled,
}

fn path_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LaunchError {
    let path = path.to_owned();
    move |source| LaunchError::Path { what, path, source }
}

/// Starts the guest and returns its process once its code is about to run.
pub async fn launch(host: &Host, plan: LaunchPlan) -> Result<Process, LaunchError> {
    let (guest, pids) = (plan.guest.clone(), plan.pids.kind());
    // Mounts and files are system calls that may wait for a disk.
    let begun = Instant::now();
    let gathered = tokio::task::spawn_blocking(move || gather(plan)).await.map_err(|_| LaunchError::Cancelled)?;
    let (spec, descriptors) = gathered?;
    let gathering = begun.elapsed();
    let process = host.launch(&guest, &spec, pids, descriptors).await?;
    tracing::debug!(gathering = ?gathering, launching = ?begun.elapsed().saturating_sub(gathering), "guest started");
    Ok(process)
}

type Gathered = (GuestSpec, Vec<(DescriptorKind, OwnedFd)>);

fn gather(plan: LaunchPlan) -> Result<Gathered, LaunchError> {
    if plan.mounts.len() > MAX_DESCRIPTORS - OTHER_DESCRIPTORS {
        return Err(LaunchError::TooManyMounts { count: plan.mounts.len() });
    }
    let mut spec = plan.spec;
    let mut descriptors = Vec::with_capacity(plan.mounts.len() + OTHER_DESCRIPTORS);

    let code = rustix::fs::open(&plan.code, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| path_error("opening compiled code", &plan.code)(error.into()))?;
    descriptors.push((DescriptorKind::Code, code));

    let users = plan.users.as_ref().map(|(path, _)| pinned::open(path)).transpose()?;
    spec.mounts.clear();
    for mount in &plan.mounts {
        let (tree, file) = bind::open(mount, &plan.empty, users.as_ref()).map_err(path_error("mounting", &mount.host_path))?;
        descriptors.push((DescriptorKind::Mount, tree));
        spec.mounts.push(Mount { destination: mount.container_path.clone(), file });
    }

    if let Pids::Of(process) = &plan.pids {
        let opened = process.open().map_err(path_error("opening a process, to share its PID namespace, of", &plan.code))?;
        descriptors.push((DescriptorKind::PidTarget, opened.ok_or(LaunchError::PidTarget(process.pid))?));
    }
    let proc = spec.procfs.then_some(("/proc", false));
    let places = spec.mounts.iter().map(|mount| (mount.destination.as_str(), mount.file)).chain(proc);
    let mount_points =
        mount_points::layer(&plan.mount_points, places).map_err(path_error("making mount points in", &plan.mount_points))?;
    let devices = devices::layer(&plan.devices).map_err(path_error("making devices in", &plan.devices))?;
    let lower: Vec<PathBuf> = [devices].into_iter().chain(plan.lower_dirs).chain(mount_points).collect();
    rootfs::prepare(&plan.writable_dir, plan.users.as_ref().map(|(_, ids)| (ids.users.first, ids.groups.first)))
        .map_err(path_error("making the writable layer", &plan.writable_dir))?;
    let root = rootfs::mount(&lower, &plan.writable_dir, users.as_ref())
        .map_err(path_error("mounting the root file system over", &plan.writable_dir))?;
    descriptors.push((DescriptorKind::Root, root));

    if let Some(path) = &plan.log_path {
        let log = open_log(path).map_err(path_error("opening the log", path))?;
        descriptors.push((DescriptorKind::Log, log));
    }
    let (mut input, mut output) = (StreamKind::StreamNull, StreamKind::StreamLog);
    if let Some(path) = &plan.stdin_fifo {
        let stdin = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| path_error("opening standard input", path)(error.into()))?;
        descriptors.push((DescriptorKind::Stdin, stdin));
        input = StreamKind::StreamDescriptor;
    }
    if plan.tty {
        let pty = Pty::open().map_err(path_error("opening a pseudo terminal", Path::new(pty::MULTIPLEXER)))?;
        descriptors.extend([(DescriptorKind::Terminal, pty.guest), (DescriptorKind::TerminalMaster, pty.master)]);
        (input, output) = (StreamKind::StreamTerminal, StreamKind::StreamTerminal);
    }
    spec.set_stdin(input);
    spec.set_stdout(output);
    spec.set_stderr(output);

    if let Some(path) = &plan.netns {
        descriptors.push((DescriptorKind::Netns, netns::open(path)?));
    }
    spec.host_network = plan.netns.is_none();
    descriptors.extend(users.map(|users| (DescriptorKind::Userns, users)));
    if let Some(path) = &plan.ipc {
        descriptors.push((DescriptorKind::Ipcns, pinned::open(path)?));
    }
    if let Some(cgroup) = &plan.cgroup {
        descriptors.extend(cgroup.procs_files()?.into_iter().map(|file| (DescriptorKind::CgroupProcs, file)));
        descriptors.extend(cgroup.oom_file().map(|file| (DescriptorKind::OomEvents, file)));
    }
    Ok((spec, descriptors))
}

/// Gives a process of a container the score that the pod asks for. Written whatever that is: guests would inherit the supervisor's
/// own value, which protects it from the OOM killer.
pub fn set_oom_score(container: &Container, process: &Process) {
    let asked = container.resources().map_or(0, |resources| resources.oom_score_adj);
    let path = format!("/proc/{}/oom_score_adj", process.pid);
    // A guest that has ended already needs none.
    if process.is_alive()
        && let Err(error) = std::fs::write(path, asked.clamp(-1000, 1000).to_string())
    {
        tracing::warn!(container = %container.id(), asked, %error, "the guest keeps the supervisor's oom_score_adj");
    }
}

/// How code is run; the error says why it is not. `invoked`: one of its functions is called.
pub fn code_kind(report: &CodeReport, invoked: bool) -> Result<CodeKind, String> {
    match (report.kind.as_str(), report.world.as_str(), invoked) {
        ("component", "http", true) => {
            Err("it is a component that answers HTTP requests: its code is that of a service, whose functions are not called \
                 one by one"
                .to_owned())
        }
        ("module", "command", _) | ("module", _, true) => Ok(CodeKind::ModuleCommand),
        ("component", "command", _) | ("component", _, true) => Ok(CodeKind::ComponentCommand),
        ("component", "http", false) => Ok(CodeKind::ComponentHttp),
        (kind, world, _) => Err(format!(
            "it is a {kind} of the world {world:?}: without _start, wasi:cli/run or a handler of wasi:http there is nothing to run; \
             `cri-wasm run --invoke NAME` calls a function of it"
        )),
    }
}

/// Opens a CRI log for appending. The kubelet makes the directory; other clients may not.
pub fn open_log(path: &Path) -> io::Result<OwnedFd> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    // A symbolic link that somebody laid at the log's place must not lead root elsewhere.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: &str, world: &str) -> CodeReport {
        CodeReport { kind: kind.into(), world: world.into(), wasi: "p1".into(), imports: Vec::new() }
    }

    #[test]
    fn commands_and_services_are_run() {
        let kind = |kind: &str, world: &str, invoked| code_kind(&report(kind, world), invoked);
        assert_eq!(kind("module", "command", false), Ok(CodeKind::ModuleCommand));
        assert_eq!(kind("component", "command", false), Ok(CodeKind::ComponentCommand));
        assert_eq!(kind("component", "http", false), Ok(CodeKind::ComponentHttp));
        let refused = kind("module", "reactor", false).unwrap_err();
        assert!(refused.contains("_start") && refused.contains("--invoke"), "{refused}");
        assert_eq!(kind("module", "reactor", true), Ok(CodeKind::ModuleCommand));
        assert_eq!(kind("component", "library", true), Ok(CodeKind::ComponentCommand));
        assert!(kind("component", "http", true).is_err());
    }
}
