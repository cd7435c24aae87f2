//! A container's root filesystem: an overlay of its image's layers and a directory of its own, as a mount that is attached nowhere.
//!
//! The mount exists as long as a descriptor or a guest's mount namespace holds it. So there is nothing to unmount, whatever is killed when.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount,
    open_tree,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::mount_attributes::map_ids;
use crate::pinned::{self, PinError};

/// Makes the directories that a container writes into: `upper` and overlayfs's `work`. They may be there already. `root`: the node's
/// ids of the container's root, where they are not the node's root.
pub fn prepare(writable: &Path, root: Option<(u32, u32)>) -> io::Result<()> {
    for name in ["upper", "work"] {
        std::fs::create_dir_all(writable.join(name))?;
    }
    let upper = writable.join("upper");
    if let Some((user, group)) = root {
        std::os::unix::fs::chown(&upper, Some(user), Some(group))?;
    }
    // The root of the merged view has the mode of the upper directory, whatever umask the daemon runs with.
    rustix::fs::chmod(upper, Mode::from_raw_mode(0o755))?;
    Ok(())
}

/// Mounts the overlay. `lower`: the image's layers, the topmost first; at least one. `users`: the user namespace in which the layers
/// have the ids that they have on the disk. What the container writes has the node's ids there all the same: overlayfs makes its own
/// files as the node's root, which such a namespace does not have.
pub fn mount(lower: &[PathBuf], writable: &Path, users: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let assemble = |lower: &[OwnedFd]| -> io::Result<OwnedFd> {
        let overlay = over(lower)?;
        let (upper, work) = (open(&writable.join("upper"))?, open(&writable.join("work"))?);
        rustix::mount::fsconfig_set_string(overlay.as_fd(), "upperdir", name(&upper))?;
        rustix::mount::fsconfig_set_string(overlay.as_fd(), "workdir", name(&work))?;
        // What a container writes here ends with it, so a guest's fsync need not reach the disk.
        rustix::mount::fsconfig_set_flag(overlay.as_fd(), "volatile")?;
        rustix::mount::fsconfig_create(overlay.as_fd())?;
        // Device nodes work: they are those of our own layer. Images bring none, and guests cannot make any.
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
        Ok(rustix::mount::fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    };
    match users {
        Some(users) => id_mapped(lower, users, assemble),
        None => assemble(&open_all(lower)?),
    }
}

/// Mounts layers to be read only. At least two. `users`: as for [`mount`].
pub fn mount_readonly(lower: &[PathBuf], users: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let assemble = |lower: &[OwnedFd]| -> io::Result<OwnedFd> {
        let overlay = over(lower)?;
        rustix::mount::fsconfig_create(overlay.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        Ok(rustix::mount::fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    };
    match users {
        Some(users) => id_mapped(lower, users, assemble),
        None => assemble(&open_all(lower)?),
    }
}

/// Has an overlay assembled from id-mapped mounts of directories.
///
/// Before Linux 6.15 overlayfs takes only layers that are attached in its maker's mount namespace. So they are attached one above the
/// other in a namespace of a thread's own, which ends with it; the overlay keeps what it needs.
#[allow(unsafe_code, reason = "unshare is unsafe in rustix for the sake of CLONE_FILES, which is not asked for")]
fn id_mapped(
    lower: &[PathBuf],
    users: &OwnedFd,
    assemble: impl FnOnce(&[OwnedFd]) -> io::Result<OwnedFd> + Send,
) -> io::Result<OwnedFd> {
    let place = lower.last().map_or(Path::new("/"), PathBuf::as_path);
    let map = |path: &PathBuf| -> io::Result<OwnedFd> {
        let tree = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        map_ids(&tree, users)?;
        Ok(tree)
    };
    pinned::on_a_thread(place, || {
        // SAFETY: the table of descriptors stays shared, and the mount namespace is this thread's alone.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(io::Error::from)?;
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).map_err(io::Error::from)?;
        let trees = lower.iter().map(map).collect::<io::Result<Vec<_>>>()?;
        for tree in &trees {
            move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(io::Error::from)?;
        }
        Ok::<_, Refused>(assemble(&trees)?)
    })
    .map_err(|Refused(error)| error)
}

/// For the thread, whose own failures are another type.
struct Refused(io::Error);

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<PinError> for Refused {
    fn from(error: PinError) -> Self {
        Self(io::Error::other(error))
    }
}

/// An overlay over these layers, not made yet.
fn over(lower: &[OwnedFd]) -> io::Result<OwnedFd> {
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let add = |layer| rustix::mount::fsconfig_set_string(overlay.as_fd(), "lowerdir+", name(layer));
    let one_by_one = lower.iter().try_for_each(add);
    if matches!(one_by_one, Err(Errno::INVAL)) {
        // Linux before 6.5 knows the list only.
        let list = lower.iter().map(name).collect::<Vec<_>>().join(":");
        rustix::mount::fsconfig_set_string(overlay.as_fd(), "lowerdir", list)?;
    } else {
        one_by_one?;
    }
    Ok(overlay)
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<OwnedFd>, Errno> {
    paths.iter().map(|path| open(path)).collect()
}

/// Paths go in as descriptors: a parameter may have 255 bytes, a path may be longer.
fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn name(descriptor: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_directory_lies_over_the_layers() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: the_upper_directory_lies_over_the_layers: needs root");
        }
        let place = tempfile::tempdir_in(std::env::var("CRI_WASM_TEST_DIR").unwrap_or("/var/tmp".into())).unwrap();
        let layers = ["top", "bottom"].map(|name| place.path().join(name));
        for layer in &layers {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(layer.join("file"), layer.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
        prepare(place.path(), None).unwrap();
        let mount = mount(&layers, place.path(), None).unwrap();
        let path = format!("/proc/self/fd/{}/file", mount.as_raw_fd());
        assert_eq!(std::fs::read(&path).unwrap(), b"top");
        std::fs::write(&path, "own").unwrap();
        assert_eq!(std::fs::read(place.path().join("upper/file")).unwrap(), b"own");
        assert_eq!(std::fs::read(layers[0].join("file")).unwrap(), b"top");
    }
}
