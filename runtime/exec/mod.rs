//! Processes that are run in a container beside its own: ExecSync, and the exec of a streaming session.
//!
//! Each is another guest process, forked by the supervisor into the namespaces, the root and the cgroup of the container.
//! It ends with the container, and with whoever asked for it: a process whose output nobody can read any more is of no
//! use. So it has no record, and a daemon that starts again ends what an earlier one had started.

pub mod program;
pub mod sync;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use images::{CodeError, CompileError};
use thiserror::Error;
use tokio::sync::oneshot;
use wasm_host::protocol::{CodeKind, DescriptorKind, ExitRecord, GuestSpec, PidNamespace, StreamKind};

use crate::cgroup::CgroupError;
use crate::container::entrypoint::EntrypointError;
use crate::container::forbidden::{self, Forbidden};
use crate::container::launch::{code_kind, set_oom_score};
use crate::container::{Container, ContainerState, spec};
use crate::host::{Host, HostError, Process};
use crate::pinned::{self, PinError};
use crate::sandbox::userns;
use crate::state::Runtime;

/// Why a command does not run in a container.
#[derive(Debug, Error)]
pub enum ExecError {
    /// It has ended, or has not begun.
    #[error("container {id} is in state {state:?}, not Running")]
    NotRunning {
        /// The container.
        id: String,
        /// Its state.
        state: ContainerState,
    },
    /// What it names cannot be run; said to the user as a shell says it.
    #[error(transparent)]
    Program(#[from] EntrypointError),
    /// The file does not compile, for a reason of its own; likewise.
    #[error("exec: {name:?}: {reason}")]
    Compile {
        /// argv[0].
        name: String,
        /// The compiler's words.
        reason: CompileError,
    },
    /// It is wasm, but no command.
    #[error("exec: {name:?}: {reason}")]
    NoCommand {
        /// argv[0].
        name: String,
        /// What it is instead.
        reason: String,
    },
    /// The cache of code.
    #[error(transparent)]
    Code(CodeError),
    /// The supervisor or the process itself refused.
    #[error("starting the command failed")]
    Host(#[from] HostError),
    /// The container's cgroup cannot be joined.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The pod's user namespace has gone.
    #[error(transparent)]
    Pinned(#[from] PinError),
    /// A pipe, a terminal or the container's root.
    #[error("{what}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// It took longer than it may.
    #[error("the command {command:?} timed out after {seconds} s")]
    TimedOut {
        /// Its words.
        command: Vec<String>,
        /// The time it had.
        seconds: u64,
    },
    /// The daemon is ending.
    #[error("the daemon is shutting down")]
    Cancelled,
}

impl ExecError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// The exit code with which a shell tells what is the command's own fault, beside the error's text: 127 where there is
    /// no such file, 126 where it cannot be run. `None`: it is not the command's fault.
    pub fn as_exit_code(&self) -> Option<u8> {
        match self {
            Self::Program(EntrypointError::Unreadable { .. }) => None,
            Self::Program(
                EntrypointError::NotInPath(_)
                | EntrypointError::NotFound(_)
                | EntrypointError::NoCommand
                | EntrypointError::Several(_),
            ) => Some(127),
            Self::Program(_) | Self::Compile { .. } | Self::NoCommand { .. } => Some(126),
            _ => None,
        }
    }
}

/// What is to be said in the place of a command that could not say it itself: the kernel ended it for memory, which its exit code,
/// 137, has in common with any other kill.
pub fn last_words(record: &ExitRecord) -> Option<&'static str> {
    let silent = record.reason == "OOMKilled" && record.message.is_empty();
    silent.then_some("the command was killed: the container has no memory left for it\n")
}

/// The streams of a command.
#[derive(Debug)]
pub enum Streams {
    /// The guest's ends of pipes; absent: at its end, or discarded.
    Pipes {
        /// What it reads.
        stdin: Option<OwnedFd>,
        /// What it writes.
        stdout: Option<OwnedFd>,
        /// What it writes about itself.
        stderr: Option<OwnedFd>,
    },
    /// The guest's end of a pseudo terminal.
    Terminal(OwnedFd),
}

/// The commands that run.
#[derive(Debug, Default)]
pub struct Execs(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    container: String,
    process: Option<Process>,
    ended: oneshot::Sender<ExitRecord>,
}

impl Execs {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the end of a guest. `false`: it is none of these.
    pub fn ended(&self, guest: &str, record: ExitRecord) -> bool {
        let Some(entry) = self.lock().remove(guest) else { return false };
        // Who waited may have gone.
        let _ = entry.ended.send(record);
        true
    }

    /// The processes that run in a container.
    pub fn of(&self, container: &str) -> Vec<Process> {
        self.lock().values().filter(|entry| entry.container == container).filter_map(|entry| entry.process.clone()).collect()
    }
}

/// A command that runs. Dropping this ends it.
#[derive(Debug)]
pub struct Exec {
    host: Host,
    process: Process,
    ended: Option<oneshot::Receiver<ExitRecord>>,
}

impl Exec {
    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<ExitRecord, ExecError> {
        let Some(ended) = &mut self.ended else { return Err(ExecError::Cancelled) };
        let record = ended.await.map_err(|_| ExecError::Cancelled);
        self.ended = None;
        record
    }

    /// Kills it.
    pub fn kill(&self) {
        if let Err(error) = self.host.signal(&self.process, libc::SIGKILL) {
            tracing::warn!(pid = self.process.pid, %error, "a command in a container cannot be killed");
        }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        if self.ended.is_some() {
            self.kill();
        }
    }
}

/// Runs a command in a container, and returns once its code is about to run.
pub async fn start(
    runtime: &Arc<Runtime>,
    container: &Arc<Container>,
    command: &[String],
    streams: Streams,
) -> Result<Exec, ExecError> {
    let target = running(container)?;
    let (program, file) = program::find(runtime, container, &target, command).await?;
    let name = || command.first().cloned().unwrap_or_default();
    let code = match runtime.images.code_of_file(&program.module.digest, file, &program.module.path).await {
        Ok(code) => code,
        Err(CodeError::Compile { reason, .. }) => return Err(ExecError::Compile { name: name(), reason }),
        Err(error) => return Err(ExecError::Code(error)),
    };
    let sandbox = runtime.sandboxes.find(container.metadata().sandbox.as_str()).map_err(|_| not_running(container))?;
    let mut spec = spec::guest_spec(container.metadata(), sandbox.metadata(), &runtime.config);
    let kind = code_kind(&code.report, false).map_err(|reason| ExecError::NoCommand { name: name(), reason })?;
    let handler = &sandbox.metadata().config.handler;
    if let Some(settings) = runtime.config.handlers.get(handler) {
        let refused = |error: Forbidden| ExecError::NoCommand { name: name(), reason: error.to_string() };
        forbidden::check(&code.report, handler, settings).map_err(refused)?;
    }
    if kind == CodeKind::ComponentHttp {
        return Err(ExecError::NoCommand { name: name(), reason: "it answers HTTP requests and is no command".to_owned() });
    }
    spec.set_kind(kind);
    spec.args = program.args;
    // The termination message is the container's own.
    spec.termination_message_path = String::new();
    spec.stdin_once = true;
    let cgroup = runtime.cgroup_of(container);
    let users = sandbox.status().held.users.then(|| userns::namespace(&runtime.config, sandbox.metadata()));
    let ended = not_running(container);
    let gather = move || {
        let opened = open(&code.path, &target)?.ok_or(ended)?;
        let mut descriptors = connect(&mut spec, streams);
        descriptors.extend(opened);
        if let Some(path) = users {
            descriptors.push((DescriptorKind::Userns, pinned::open(&path)?));
        }
        if let Some(cgroup) = cgroup {
            descriptors.extend(cgroup.procs_files()?.into_iter().map(|file| (DescriptorKind::CgroupProcs, file)));
            descriptors.extend(cgroup.oom_file().map(|file| (DescriptorKind::OomEvents, file)));
        }
        Ok::<_, ExecError>((spec, descriptors))
    };
    let (spec, descriptors) = tokio::task::spawn_blocking(gather).await.map_err(|_| ExecError::Cancelled)??;
    launch(runtime, container, spec, descriptors).await
}

async fn launch(
    runtime: &Arc<Runtime>,
    container: &Arc<Container>,
    spec: GuestSpec,
    descriptors: Vec<(DescriptorKind, OwnedFd)>,
) -> Result<Exec, ExecError> {
    // Others are all in the node's, and entering a namespace costs a millisecond, although it be one's own.
    let pids = if spec.procfs { PidNamespace::PidJoined } else { PidNamespace::PidShared };
    let guest = format!("{}.{:016x}", container.id(), rand::random::<u64>());
    let (sender, receiver) = oneshot::channel();
    let entry = Entry { container: container.id().to_string(), process: None, ended: sender };
    runtime.execs.lock().insert(guest.clone(), entry);
    // Its caller may go away meanwhile; then what was started must be ended all the same.
    let (task, name) = (Arc::clone(runtime), guest.clone());
    let started = runtime.run_to_end(async move {
        match task.host.launch(&name, &spec, pids, descriptors).await {
            Ok(process) => {
                if let Some(entry) = task.execs.lock().get_mut(&name) {
                    entry.process = Some(process.clone());
                }
                Ok(Exec { host: task.host.clone(), process, ended: Some(receiver) })
            }
            Err(error) => {
                task.execs.lock().remove(&name);
                Err(error)
            }
        }
    });
    let exec = match started.await.map_err(|_| ExecError::Cancelled)? {
        // The process whose namespaces were to be joined had ended by then.
        Err(HostError::Refused { errno: libc::ESRCH, .. }) => return Err(not_running(container)),
        started => started?,
    };
    set_oom_score(container, &exec.process);
    // The container may have ended between the look at its state and the entry above; then nobody has ended this.
    running(container)?;
    tracing::debug!(container = %container.id(), guest, pid = exec.process.pid, "a command runs");
    Ok(exec)
}

fn running(container: &Container) -> Result<Process, ExecError> {
    let status = container.status();
    match (status.state, status.process) {
        (ContainerState::Running, Some(process)) => Ok(process),
        _ => Err(not_running(container)),
    }
}

fn not_running(container: &Container) -> ExecError {
    ExecError::NotRunning { id: container.id().to_string(), state: container.state() }
}

/// The code, and the process to join; `None`: that has just ended.
fn open(code: &std::path::Path, target: &Process) -> Result<Option<[(DescriptorKind, OwnedFd); 2]>, ExecError> {
    use rustix::fs::{Mode, OFlags};
    let code = rustix::fs::open(code, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| ExecError::system("opening compiled code")(error.into()))?;
    let target = target.open().map_err(ExecError::system("opening the container's process"))?;
    Ok(target.map(|target| [(DescriptorKind::Code, code), (DescriptorKind::Target, target)]))
}

fn connect(spec: &mut GuestSpec, streams: Streams) -> Vec<(DescriptorKind, OwnedFd)> {
    let kind = |end: &Option<OwnedFd>| if end.is_some() { StreamKind::StreamDescriptor } else { StreamKind::StreamNull };
    match streams {
        Streams::Pipes { stdin, stdout, stderr } => {
            spec.set_stdin(kind(&stdin));
            spec.set_stdout(kind(&stdout));
            spec.set_stderr(kind(&stderr));
            let ends = [(DescriptorKind::Stdin, stdin), (DescriptorKind::Stdout, stdout), (DescriptorKind::Stderr, stderr)];
            ends.into_iter().filter_map(|(kind, end)| Some((kind, end?))).collect()
        }
        Streams::Terminal(end) => {
            spec.set_stdin(StreamKind::StreamTerminal);
            spec.set_stdout(StreamKind::StreamTerminal);
            spec.set_stderr(StreamKind::StreamTerminal);
            spec::name_terminal(&mut spec.env);
            vec![(DescriptorKind::Terminal, end)]
        }
    }
}
