//! Turns a freshly forked child of the supervisor into a guest process that holds nothing but what its pod gave it.
//!
//! The order is forced by what each step takes away: cgroups first, so that all that follows is counted; the network namespace while
//! the process may still enter it; mounts while it is still root of them; then user namespace, user, capabilities, Landlock and seccomp, of which none can
//! be undone. What is run in a container besides (exec) joins the namespaces of its guest process instead of making its own. All of it
//! happens before the process starts a thread, because several of these attributes belong to a thread.

mod descriptors;
mod filesystem;
mod mounts;
mod privileges;
mod proc;
mod syscalls;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use thiserror::Error;

pub use descriptors::{Descriptors, MalformedLaunch, keep_only};
pub use mounts::{GUESTS, private_root};
pub use syscalls::Filter;

use crate::protocol::{GuestSpec, Profile};

/// A step of the jail that failed.
#[derive(Debug, Error)]
#[error("{step}")]
pub struct JailError {
    step: String,
    #[source]
    source: io::Error,
}

impl JailError {
    fn new(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { step: step.into(), source: source.into() }
    }

    /// The errno of the system call that failed, 0 where it was none.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

/// What the jail uses up.
#[derive(Debug, Default)]
pub struct Places {
    /// Files `cgroup.procs` to join.
    pub cgroups: Vec<OwnedFd>,
    /// pidfd of the process whose namespaces and root are joined; then the others below are absent.
    pub target: Option<OwnedFd>,
    /// The pod's network namespace; absent for pods on the host's network.
    pub network: Option<OwnedFd>,
    /// The IPC namespace that the pod's containers share; absent: the guest gets one of its own.
    pub ipc: Option<OwnedFd>,
    /// The pod's user namespace; absent: the host's.
    pub users: Option<OwnedFd>,
    /// The detached mount that becomes `/`.
    pub root: Option<OwnedFd>,
    /// One detached mount for each of `GuestSpec.mounts`.
    pub mounts: Vec<OwnedFd>,
}

/// Joins cgroups, by their files `cgroup.procs`: all that the process does from now on is counted there.
pub fn join(cgroups: &[OwnedFd]) -> Result<(), JailError> {
    for procs in cgroups {
        // "0" is the writer itself, whatever PID namespace it is in.
        rustix::io::write(procs, b"0").map_err(|error| JailError::new("joining the cgroup", error))?;
    }
    Ok(())
}

/// Makes `terminal` the controlling terminal, so that ^C and a hang-up reach the guest as they reach any program.
pub fn control(terminal: &OwnedFd) -> Result<(), JailError> {
    rustix::process::setsid().map_err(|error| JailError::new("starting a session", error))?;
    rustix::process::ioctl_tiocsctty(terminal).map_err(|error| JailError::new("taking the terminal", error))
}

/// Locks the calling process in. It must have one thread.
pub fn enter(spec: &GuestSpec, places: Places, filter: &Filter) -> Result<(), JailError> {
    if let Some(target) = places.target {
        join_process(target)?;
    } else {
        if let Some(network) = places.network {
            rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| JailError::new("entering the pod's network namespace", error))?;
        }
        if let Some(ipc) = &places.ipc {
            rustix::thread::move_into_link_name_space(ipc.as_fd(), Some(LinkNameSpaceType::InterProcessCommunication))
                .map_err(|error| JailError::new("entering the pod's IPC namespace", error))?;
        }
        unshare(spec, places.ipc.is_none())?;
        mounts::enter_root(spec, places.root, places.mounts)?;
        proc::mount(spec)?;
        proc::protect(spec)?;
    }
    privileges::limit(spec)?;
    if let Some(users) = places.users {
        // The last that is entered: all before is done with the powers of the host's root.
        rustix::thread::move_into_link_name_space(users.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(|error| JailError::new("entering the pod's user namespace", error))?;
    }
    privileges::drop_all(spec)?;
    if spec.profile() == Profile::Jitdump {
        // wasmtime's jitdump goes into the working directory, which nothing else looks at.
        rustix::process::chdir(spec.profile_dir.as_str())
            .map_err(|error| JailError::new(format!("entering the directory of the profile, {}", spec.profile_dir), error))?;
    }
    filesystem::restrict()?;
    for program in &spec.seccomp_programs {
        syscalls::apply_asked(program)?;
    }
    if spec.seccomp_unconfined { Ok(()) } else { filter.apply() }
}

/// Locks the calling process in with nothing: an empty root of its own, and no privileges.
pub fn enter_nothing(spec: &GuestSpec, null: &OwnedFd, filter: &Filter) -> Result<(), JailError> {
    let failed = |error: rustix::io::Errno| JailError::new("closing the supervisor's output", error);
    rustix::stdio::dup2_stdout(null).and_then(|()| rustix::stdio::dup2_stderr(null)).map_err(failed)?;
    unshare(spec, true)?;
    mounts::enter_empty()?;
    privileges::limit(spec)?;
    privileges::drop_all(spec)?;
    filesystem::restrict()?;
    filter.apply()
}

/// Enters the namespaces of a container's guest process, and with its mount namespace the container's root.
///
/// The kernel refuses where that process has ended: what is run in a container ends with it.
fn join_process(target: OwnedFd) -> Result<(), JailError> {
    use rustix::thread::ThreadNameSpaceType as Type;
    let namespaces = Type::MOUNT | Type::NETWORK | Type::INTER_PROCESS_COMMUNICATION | Type::HOST_NAME_AND_NIS_DOMAIN_NAME;
    rustix::thread::move_into_thread_name_spaces(target.as_fd(), namespaces)
        .map_err(|error| JailError::new("entering the container's namespaces", error))
}

#[allow(unsafe_code, reason = "unshare is unsafe in rustix for the sake of CLONE_FILES, which is not asked for")]
fn unshare(spec: &GuestSpec, own_ipc: bool) -> Result<(), JailError> {
    let mut flags = UnshareFlags::NEWNS;
    if own_ipc && !spec.host_ipc {
        flags |= UnshareFlags::NEWIPC;
    }
    if !spec.host_uts {
        flags |= UnshareFlags::NEWUTS;
    }
    // SAFETY: the process has one thread and keeps its descriptor table, so no descriptor of another owner changes meaning.
    unsafe { rustix::thread::unshare_unsafe(flags) }
        .map_err(|error| JailError::new("making mount, IPC and UTS namespaces", error))?;
    if !spec.host_uts {
        if !spec.hostname.is_empty() {
            rustix::system::sethostname(spec.hostname.as_bytes())
                .map_err(|error| JailError::new(format!("setting the host name {:?}", spec.hostname), error))?;
        }
        if !spec.domainname.is_empty() {
            rustix::system::setdomainname(spec.domainname.as_bytes())
                .map_err(|error| JailError::new(format!("setting the domain name {:?}", spec.domainname), error))?;
        }
    }
    Ok(())
}
