//! Mount namespaces: the supervisor's nearly empty one, and the container's root that each guest process moves into.
//!
//! Everything is mounted from descriptors of detached mounts that the daemon made. So nothing is attached anywhere on the host and
//! nothing can be left behind there; and since the mounts are attached after the process has moved into the container's root, a symbolic
//! link in an image or volume resolves inside that root, wherever it points.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use super::JailError;
use crate::protocol::{GuestSpec, Mount};

/// Where the supervisor's tree keeps the directory of the guests' files.
pub const GUESTS: &str = "/guests";
/// Where a guest process attaches its root before it moves in.
const ROOT: &str = "/root";
/// The supervisor looks its children up there; a guest process leaves it behind with the rest.
const PROC: &str = "/proc";

/// Moves the supervisor into a mount namespace that holds a small tmpfs, the guests' directory and /proc.
///
/// A guest's `unshare` copies the mounts of its parent; on a busy node the host has thousands, here there are three. `state` is a directory
/// that exists; it is covered in this namespace only.
#[allow(unsafe_code, reason = "see unshare below")]
pub fn private_root(state: &Path, guests: &Path) -> Result<(), JailError> {
    let failed = |step: &'static str| move |error: Errno| JailError::new(step, error);
    // SAFETY: one thread, and the descriptor table stays shared with nobody.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(failed("making the supervisor's mount namespace"))?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("making the supervisor's mounts private"))?;
    let guests = open_tree(guests).map_err(failed("opening the guests' directory"))?;
    let proc = open_tree(Path::new(PROC)).map_err(failed("opening /proc"))?;
    let tmpfs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("opening tmpfs"))?;
    rustix::mount::fsconfig_set_string(tmpfs.as_fd(), "size", "64k").map_err(failed("sizing tmpfs"))?;
    rustix::mount::fsconfig_create(tmpfs.as_fd()).map_err(failed("creating tmpfs"))?;
    let root = rustix::mount::fsmount(tmpfs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(failed("mounting tmpfs"))?;
    attach(root.as_fd(), state).map_err(failed("attaching the supervisor's root"))?;
    pivot(state)?;
    for directory in [GUESTS, ROOT, PROC] {
        rustix::fs::mkdir(directory, Mode::from_raw_mode(0o700)).map_err(failed("making the supervisor's directories"))?;
    }
    attach(proc.as_fd(), Path::new(PROC)).map_err(failed("attaching /proc"))?;
    attach(guests.as_fd(), Path::new(GUESTS)).map_err(failed("attaching the guests' directory"))
}

/// Makes the detached root and mounts the process's whole file tree.
pub(super) fn enter_root(spec: &GuestSpec, root: Option<OwnedFd>, mounts: Vec<OwnedFd>) -> Result<(), JailError> {
    let root = root.ok_or_else(|| JailError::new("finding the root file system", Errno::BADF))?;
    attach(root.as_fd(), Path::new(ROOT)).map_err(|error| JailError::new("attaching the root file system", error))?;
    pivot(Path::new(ROOT))?;
    for (mount, tree) in spec.mounts.iter().zip(mounts) {
        let step = |what: &str| format!("{what} {}", mount.destination);
        mount_point(mount).map_err(|error| JailError::new(step("making the mount point"), error))?;
        attach(tree.as_fd(), Path::new(&mount.destination)).map_err(|error| JailError::new(step("mounting at"), error))?;
    }
    if spec.root_readonly {
        set_readonly(Path::new("/")).map_err(|error| JailError::new("making the root file system read-only", error))?;
    }
    Ok(())
}

/// Leaves every file behind: the root is the empty directory in which others attach theirs.
pub(super) fn enter_empty() -> Result<(), JailError> {
    let root = open_tree(Path::new(ROOT)).map_err(|error| JailError::new("opening an empty directory", error))?;
    attach(root.as_fd(), Path::new(ROOT)).map_err(|error| JailError::new("attaching an empty directory", error))?;
    pivot(Path::new(ROOT))
}

/// Makes `new_root` the root and lets go of the old one.
fn pivot(new_root: &Path) -> Result<(), JailError> {
    let failed = |error: Errno| JailError::new("changing the root", error);
    rustix::process::chdir(new_root).map_err(failed)?;
    // With "." twice the old root lies over the new one and is taken off again; no directory for it is needed.
    rustix::process::pivot_root(".", ".").map_err(failed)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)
}

pub(super) fn open_tree(path: &Path) -> Result<OwnedFd, Errno> {
    use rustix::mount::OpenTreeFlags;
    rustix::mount::open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

pub(super) fn attach(tree: std::os::fd::BorrowedFd<'_>, destination: &Path) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    rustix::mount::move_mount(tree, "", CWD, destination, flags)
}

/// The mount point is made where the image has none, as every container runtime does.
fn mount_point(mount: &Mount) -> io::Result<()> {
    let path = Path::new(&mount.destination);
    if path.exists() {
        return Ok(());
    }
    if !mount.file {
        return std::fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).open(path).map(drop)
}

/// `mount_setattr(2)`, which rustix has not: read-only for this mount alone, not for what is mounted below.
#[allow(unsafe_code, reason = "rustix has no mount_setattr")]
pub(super) fn set_readonly(path: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is NUL-terminated, and the kernel reads no more of the structure than the size that is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            AtFlags::empty().bits(),
            std::ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
