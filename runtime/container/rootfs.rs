//! A container's root filesystem: an overlay of its image's layers and a directory of its own, as a mount that is attached nowhere.
//!
//! The mount exists as long as a descriptor or a guest's mount namespace holds it. So there is nothing to unmount, whatever is killed when.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Makes the directories that a container writes into: `upper` and overlayfs's `work`. They may be there already.
pub fn prepare(writable: &Path) -> io::Result<()> {
    for name in ["upper", "work"] {
        std::fs::create_dir_all(writable.join(name))?;
    }
    // The root of the merged view has the mode of the upper directory, whatever umask the daemon runs with.
    rustix::fs::chmod(writable.join("upper"), Mode::from_raw_mode(0o755))?;
    Ok(())
}

/// Mounts the overlay. `lower`: the image's layers, the topmost first; at least one.
pub fn mount(lower: &[PathBuf], writable: &Path) -> io::Result<OwnedFd> {
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
}

/// Mounts layers to be read only. At least two.
pub fn mount_readonly(lower: &[PathBuf]) -> io::Result<OwnedFd> {
    let overlay = over(lower)?;
    rustix::mount::fsconfig_create(overlay.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(rustix::mount::fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// An overlay over these layers, not made yet.
fn over(lower: &[PathBuf]) -> io::Result<OwnedFd> {
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let lower: Vec<OwnedFd> = lower.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
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
        prepare(place.path()).unwrap();
        let mount = mount(&layers, place.path()).unwrap();
        let path = format!("/proc/self/fd/{}/file", mount.as_raw_fd());
        assert_eq!(std::fs::read(&path).unwrap(), b"top");
        std::fs::write(&path, "own").unwrap();
        assert_eq!(std::fs::read(place.path().join("upper/file")).unwrap(), b"own");
        assert_eq!(std::fs::read(layers[0].join("file")).unwrap(), b"top");
    }
}
