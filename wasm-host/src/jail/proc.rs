//! /proc for guests that expect it, and the paths of a container that are hidden or made read-only.
//!
//! /proc is that of the process's own PID namespace, and always read-only: a guest that could write `/proc/self/mem` would be
//! out of WebAssembly. What of it is hidden, the pod says (`masked_paths`), as for any container.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{JailError, mounts};
use crate::protocol::GuestSpec;

const PROC: &str = "/proc";

/// What hides a file: the device of the container's own root.
const NULL: &str = "/dev/null";

/// Mounts /proc if the guest is to have it.
pub(super) fn mount(spec: &GuestSpec) -> Result<(), JailError> {
    if !spec.procfs {
        return Ok(());
    }
    let failed = |step: &'static str| move |error: Errno| JailError::new(step, error);
    let proc = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("opening procfs"))?;
    rustix::mount::fsconfig_create(proc.as_fd()).map_err(failed("creating procfs"))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let tree =
        rustix::mount::fsmount(proc.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("mounting procfs"))?;
    match rustix::fs::mkdir(PROC, Mode::from_raw_mode(0o555)) {
        Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
        Err(error) => return Err(failed("making the mount point /proc")(error)),
    }
    mounts::attach(tree.as_fd(), Path::new(PROC)).map_err(failed("mounting at /proc"))
}

/// Hides and protects paths. What is not there needs neither.
pub(super) fn protect(spec: &GuestSpec) -> Result<(), JailError> {
    let applies = |path: &&String| spec.procfs || !Path::new(path).starts_with(PROC);
    for path in spec.readonly_paths.iter().filter(applies) {
        passing_over_missing(read_only(path)).map_err(|error| JailError::new(format!("making {path} read-only"), error))?;
    }
    for path in spec.masked_paths.iter().filter(applies) {
        passing_over_missing(hide(path)).map_err(|error| JailError::new(format!("hiding {path}"), error))?;
    }
    Ok(())
}

fn passing_over_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        done => done,
    }
}

/// A mount of the path over itself, so that it can have attributes of its own.
fn read_only(path: &str) -> io::Result<()> {
    let path = Path::new(path);
    let tree = mounts::open_tree(path)?;
    mounts::attach(tree.as_fd(), path)?;
    mounts::set_readonly(path)
}

/// A file becomes a device that holds nothing, a directory an empty one.
fn hide(path: &str) -> io::Result<()> {
    let path = Path::new(path);
    let is_directory = FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode) == FileType::Directory;
    if !is_directory {
        return Ok(mounts::attach(mounts::open_tree(Path::new(NULL))?.as_fd(), path)?);
    }
    let tmpfs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(tmpfs.as_fd(), "size", "4k")?;
    rustix::mount::fsconfig_create(tmpfs.as_fd())?;
    let tree = rustix::mount::fsmount(tmpfs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    Ok(mounts::attach(tree.as_fd(), path)?)
}
