//! Control groups: where the limits of a pod and of its guests stand, and what the kernel counts about them.
//!
//! The room owns the layout of the node's hierarchies ([`layout`]), the checked path of a group ([`CgroupPath`]),
//! the translation of a CRI `LinuxContainerResources` into files ([`limits`]) and the life of one group
//! ([`Cgroup`]: create, apply, join, kill, remove). It knows cgroup v1 (each controller in a hierarchy of its own, or
//! several mounted together), v2, and the hybrid form, where the controllers stand on v1 beside an empty v2; there v1
//! is used. Groups are directories and files with nobody in between, except for those that are units of [`systemd`]'s ([`driver`]).
//!
//! Nothing here is async and nothing is kept in memory but paths: the directories are the state, so a daemon that
//! starts anew just opens the same path again. Calls that may wait ([`Cgroup::kill`], [`Cgroup::remove`]) say so and
//! belong on a blocking thread.
//!
//! What joining costs, measured on Linux 6.18 with v1 hierarchies (p50 of a forked child writing `0`):
//!
//! | | the first hierarchy | each further one |
//! |---|---|---|
//! | as a node boots | 9.5 ms: a whole RCU grace period | 4–8 µs |
//! | after [`Cgroups::favor_fast_joins`] | 25–35 µs | 10–15 µs |
//!
//! So the number of hierarchies does not matter, the first write does, and [`Cgroups::favor_fast_joins`] is what a
//! daemon on v1 calls once at its start. On v2 a child that is cloned into its group (`CLONE_INTO_CGROUP` with
//! [`Cgroup::directory`]) joins nothing at all.

mod apply;
mod create;
pub mod driver;
mod error;
mod fast_join;
mod files;
mod group;
pub mod layout;
pub mod limits;
mod path;
mod processes;
pub mod systemd;
pub mod unit;

pub use apply::Change;
pub use driver::Made;
pub use error::CgroupError;
pub use group::Cgroup;
pub use layout::{Absence, Version};
pub use limits::Limits;
pub use path::{CgroupPath, PathError};

use std::path::Path;
use std::sync::Arc;

use layout::{Controller, Layout};
use systemd::Systemd;

/// The node's hierarchies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: Arc<Layout>,
    systemd: Option<Systemd>,
}

impl Cgroups {
    /// Looks at `/proc/self/mountinfo` and `/proc/cgroups`.
    ///
    /// A controller that the node lacks is no error: it is recorded ([`Cgroups::missing`]), its limits are refused by
    /// name when somebody asks for them, and everything else works. A node without any hierarchy answers
    /// [`Version::None`]; groups on it are made of nothing.
    pub fn detect() -> Result<Cgroups, CgroupError> {
        let mounts = files::read(Path::new("/proc/self/mountinfo"))?;
        // Missing where the kernel was built without v1, which is no loss: it only explains absences.
        let known = files::read(Path::new("/proc/cgroups")).unwrap_or_default();
        Ok(Cgroups { layout: Arc::new(Layout::from_proc(&mounts, &known)), systemd: None })
    }

    /// For tests: a layout that was put together by hand.
    #[cfg(test)]
    pub(crate) fn with_layout(layout: Layout) -> Cgroups {
        Cgroups { layout: Arc::new(layout), systemd: None }
    }

    /// The version that the node's controllers stand on.
    pub fn version(&self) -> Version {
        self.layout.version()
    }

    /// The controllers that the node lacks, of `cpu`, `memory`, `pids`, `cpuset` and `hugetlb`.
    pub fn missing(&self) -> Vec<&'static str> {
        self.layout.missing().map(Controller::name).collect()
    }

    /// Why a controller that [`Cgroups::missing`] names is not there; `None` for one that is.
    pub fn absence(&self, controller: &str) -> Option<Absence> {
        self.layout.absence(controller)
    }

    /// Makes joining cgroup v1 hierarchies cheap: see [`fast_join`]. On other nodes it does nothing.
    ///
    /// Returns whether joins are fast now.
    pub fn favor_fast_joins(&self) -> Result<bool, CgroupError> {
        fast_join::favor(&self.layout)
    }

    /// Whether these limits can be set on this node: the error that [`Cgroup::apply`] would give without asking the kernel.
    pub fn check(&self, limits: &Limits) -> Result<(), CgroupError> {
        limits.check(&self.layout)
    }

    /// Creates the group in every hierarchy, its parents too; a group that stands already is taken as it is.
    ///
    /// On v2 the controllers are switched on in each parent's `cgroup.subtree_control`; a v1 cpuset gets its parent's
    /// processors and memory nodes, without which nobody could join it. When a step fails, the directories that this
    /// call made are gone again.
    pub fn create(&self, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
        let group = self.open(path);
        group.create()?;
        Ok(group)
    }

    /// A handle on the group at `path`. Does not touch the disk, so the group need not exist.
    pub fn open(&self, path: &CgroupPath) -> Cgroup {
        Cgroup { layout: Arc::clone(&self.layout), path: path.clone(), systemd: self.systemd.clone() }
    }
}

#[cfg(test)]
mod tests;
