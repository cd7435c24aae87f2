//! A pod's mounts as detached trees, opened by the daemon and attached by the guest's process.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType};
use rustix::mount::OpenTreeFlags;

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
}

/// Clones the tree at `host_path` and sets its attributes. `true` beside it: it is a file.
///
/// `empty`: a directory without content, for what overlayfs wants two of.
pub fn open(plan: &MountPlan, empty: &Path) -> io::Result<(OwnedFd, bool)> {
    if let Some(top) = plan.layers.first()
        && top.is_dir()
    {
        std::fs::create_dir_all(empty)?;
        let lower: Vec<PathBuf> = plan.layers.iter().cloned().chain([empty.to_owned()]).collect();
        return Ok((rootfs::mount_readonly(&lower)?, false));
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
    if let Some(propagation) = propagation {
        set(&tree, 0, propagation, true)?;
    }
    let readonly = if plan.readonly { libc::MOUNT_ATTR_RDONLY } else { 0 };
    set(&tree, libc::MOUNT_ATTR_NOSUID | readonly, 0, false)?;
    if plan.recursive_readonly {
        set(&tree, libc::MOUNT_ATTR_RDONLY, 0, true)?;
    }
    Ok((tree, is_file))
}

/// `mount_setattr(2)`, which rustix has not.
#[allow(unsafe_code, reason = "rustix has no mount_setattr")]
fn set(tree: &OwnedFd, attributes: u64, propagation: libc::c_ulong, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation, userns_fd: 0 };
    let flags = AtFlags::EMPTY_PATH.bits() | if recursive { libc::AT_RECURSIVE.unsigned_abs() } else { 0 };
    let empty = CString::default();
    // SAFETY: the path is NUL-terminated, and the kernel reads no more of the structure than the size that is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty.as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
