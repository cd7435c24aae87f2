//! Cheap joins on cgroup v1.
//!
//! Moving a process between groups takes the kernel's `cgroup_threadgroup_rwsem` for writing. Since Linux 6.0 its
//! readers (fork, exec, exit) are free, and the first writer after a pause waits for an RCU grace period instead:
//! 9.5 ms measured at 250 Hz, which is more than everything else in a pod's start together. The mount option
//! `favordynmods` of a cgroup hierarchy (Documentation/admin-guide/cgroup-v2.rst, "Mounting") turns that around for
//! the whole node; since Linux 6.18 it even costs the readers next to nothing, because each thread group has a lock of
//! its own then. Before 6.0 the kernel always worked that way, and the option is not known, nor needed.
//!
//! On v2 a child is cloned into its group and nothing moves, so nothing is set there.

use std::io;

use rustix::mount::{FsOpenFlags, fsconfig_create, fsconfig_set_flag, fsopen};

use super::CgroupError;
use super::layout::{Layout, Version};

const FAVOR: &str = "favordynmods";

/// Options of cgroup2 that apply to the one hierarchy behind all its mounts, and that are cleared when a mount is made
/// without them. Those that are on must be given again.
const OPTIONS_TO_KEEP: [&str; 5] =
    ["nsdelegate", "memory_localevents", "memory_recursiveprot", "memory_hugetlb_accounting", "pids_localevents"];

/// Sets the option where v1 is in use. Returns whether joins are fast afterwards.
pub(super) fn favor(layout: &Layout) -> Result<bool, CgroupError> {
    if layout.version() != Version::V1 {
        return Ok(true);
    }
    let options = layout.unified_options().unwrap_or_default();
    if options.iter().any(|option| option == FAVOR) {
        return Ok(true);
    }
    match set(options) {
        Ok(()) => Ok(true),
        // A kernel before 6.0 does not know the option and joins fast.
        Err(rustix::io::Errno::INVAL) => Ok(true),
        // Before 5.2 there is no fsopen; without the rights of the node's root user nothing can be set.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => Ok(false),
        Err(error) => Err(CgroupError::MountOptions { source: io::Error::from(error) }),
    }
}

/// A superblock configuration of cgroup2 sets the options of the hierarchy itself, so nothing has to be mounted and
/// no mount of the node is touched: the descriptor is closed again at once.
fn set(current: &[String]) -> rustix::io::Result<()> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for option in OPTIONS_TO_KEEP.iter().filter(|kept| current.iter().any(|option| option == *kept)) {
        fsconfig_set_flag(&context, *option)?;
    }
    fsconfig_set_flag(&context, FAVOR)?;
    fsconfig_create(&context)
}
