//! PID namespaces of guests: chosen by the supervisor around the fork, since a process never changes its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use crate::protocol::PidNamespace;

/// The supervisor's own PID namespace, to come back to.
#[derive(Debug)]
pub(super) struct Pids(OwnedFd);

impl Pids {
    /// To be opened while /proc is there.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Forks so that the child is in the namespace that is asked for. `target`: pidfd of a process whose namespace is joined.
    pub(super) fn fork(
        &self,
        namespace: PidNamespace,
        target: Option<OwnedFd>,
        fork: impl FnOnce() -> io::Result<Pid>,
    ) -> io::Result<Pid> {
        match (namespace, target) {
            (PidNamespace::PidShared, _) => return fork(),
            (PidNamespace::PidOwn, _) => Self::unshare()?,
            (PidNamespace::PidJoined, Some(target)) => {
                rustix::thread::move_into_thread_name_spaces(target.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
            }
            (PidNamespace::PidJoined, None) => return Err(io::ErrorKind::InvalidInput.into()),
        }
        let forked = fork();
        // Without this the next guest would land there, too, so it must not be passed over.
        rustix::thread::move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
        forked
    }

    #[allow(unsafe_code, reason = "unshare is unsafe in rustix for the sake of CLONE_FILES, which is not asked for")]
    fn unshare() -> io::Result<()> {
        // SAFETY: the process has one thread and keeps its descriptor table.
        Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }?)
    }
}
