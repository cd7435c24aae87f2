//! A pod's mounts as detached trees, opened by the daemon and attached by the guest's process.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType};
use rustix::mount::OpenTreeFlags;

use super::mount_attributes::{Attributes, map_ids, set};
use super::rootfs;

/// `Mount.propagation` of the CRI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// Mounts made later on either side stay on that side.
    #[default]
    Private,
    /// Those of the host appear in the container.
    HostToContainer,
    /// And the other way round.
    Bidirectional,
}

/// One mount of a container.
#[derive(Debug, Clone)]
pub struct MountPlan {
    /// Files of an image: directories, topmost first, that are shown as one, or a file. Empty: `host_path` counts.
    pub layers: Vec<PathBuf>,
    /// Symbolic links are followed.
    pub host_path: PathBuf,
    /// Absolute.
    pub container_path: String,
    /// Read-only for this mount, not for what the host has mounted below it.
    pub readonly: bool,
    /// Read-only all the way down.
    pub recursive_readonly: bool,
    /// See [`Propagation`].
    pub propagation: Propagation,
    /// Ids on the disk are those that the pod sees; without a user namespace both are one.
    pub id_mapped: bool,
}

/// Clones the tree at `host_path` and sets its attributes. `true` beside it: it is a file.
///
/// `users`: the pod's user namespace, for mounts that are id-mapped.
/// `empty`: a directory without content, for what overlayfs wants two of.
pub fn open(plan: &MountPlan, empty: &Path, users: Option<&OwnedFd>) -> io::Result<(OwnedFd, bool)> {
    if let Some(top) = plan.layers.first()
        && top.is_dir()
    {
        std::fs::create_dir_all(empty)?;
        let lower: Vec<PathBuf> = plan.layers.iter().cloned().chain([empty.to_owned()]).collect();
        return Ok((rootfs::mount_readonly(&lower, users)?, false));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, plan.host_path.as_path(), flags)?;
    let is_file = FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode) != FileType::Directory;
    let propagation = match plan.propagation {
        Propagation::Private => Some(libc::MS_PRIVATE),
        Propagation::HostToContainer => Some(libc::MS_SLAVE),
        // The clone is a peer of the mount that it was cloned from, if that is shared.
        Propagation::Bidirectional => None,
    };
    let none = Attributes::default();
    if let Some(propagation) = propagation {
        set(&tree, Attributes { propagation, recursive: true, ..none })?;
    }
    let readonly = if plan.readonly { libc::MOUNT_ATTR_RDONLY } else { 0 };
    set(&tree, Attributes { set: libc::MOUNT_ATTR_NOSUID | readonly, ..none })?;
    if plan.recursive_readonly {
        set(&tree, Attributes { set: libc::MOUNT_ATTR_RDONLY, recursive: true, ..none })?;
    }
    if let (true, Some(users)) = (plan.id_mapped, users) {
        map_ids(&tree, users)?;
    }
    Ok((tree, is_file))
}
