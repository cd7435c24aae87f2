//! What can go wrong with a control group, a variant per step.

use std::io;
use std::path::PathBuf;

use super::systemd::SystemdError;

/// A failed step on a control group. The source of each I/O variant is the kernel's answer.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file of `/proc` or of a hierarchy could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A control file refused a value, or is not there.
    #[error("cannot write `{value}` to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A memory limit is below what is in use, and the kernel cannot take back enough.
    #[error("the limit of {limit} bytes is below the {usage} bytes in use, and the kernel cannot take back enough of it ({})", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        limit: String,
        /// Bytes, read after the refusal.
        usage: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A control file could not be opened for somebody else's use.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A group's directory could not be made.
    #[error("cannot create the cgroup {}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A group's directory could not be removed.
    #[error("cannot remove the cgroup {}", path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A group is still in use after every retry of its removal.
    #[error("the cgroup {} is still in use (processes: {processes:?})", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
        /// Who is in it; empty when a group below it, or a dying process, holds it.
        processes: Vec<i32>,
    },
    /// A signal could not be sent to a process of a group.
    #[error("cannot kill process {pid}")]
    Kill {
        /// The process.
        pid: i32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Processes were killed and are still there after the deadline.
    #[error("processes {processes:?} of the cgroup {path} are still there after SIGKILL")]
    Survivors {
        /// The group.
        path: String,
        /// The processes.
        processes: Vec<i32>,
    },
    /// The root group, which is the whole node, was to be killed or removed.
    #[error("the root cgroup is not this runtime's to kill or remove")]
    Root,
    /// A limit needs a controller that the node lacks.
    #[error("this node cannot enforce {limit}: it has no cgroup controller `{controller}` ({reason})")]
    MissingController {
        /// The limit, in words of the CRI.
        limit: String,
        /// The controller.
        controller: &'static str,
        /// Why it is not there.
        reason: &'static str,
    },
    /// A value that no kernel accepts, or that names a file which is none of the caller's business.
    #[error("{field}: `{value}` is not accepted: {reason}")]
    InvalidLimit {
        /// The field, in words of the CRI.
        field: &'static str,
        /// The value.
        value: String,
        /// What would be accepted.
        reason: &'static str,
    },
    /// systemd did not make, change or end a unit.
    #[error("cannot have systemd manage {unit}")]
    Systemd {
        /// The unit.
        unit: String,
        /// Why.
        #[source]
        source: SystemdError,
    },
    /// The mount options of the v2 hierarchy could not be set.
    #[error("cannot set the mount options of the cgroup v2 hierarchy")]
    MountOptions {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}
