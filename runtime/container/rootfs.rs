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
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let overlay = overlay.as_fd();
    // Paths go in as descriptors: a parameter may have 255 bytes, a path may be longer.
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let name = |descriptor: &OwnedFd| format!("/proc/self/fd/{}", descriptor.as_raw_fd());

    let lower: Vec<OwnedFd> = lower.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
    let one_by_one = lower.iter().try_for_each(|layer| rustix::mount::fsconfig_set_string(overlay, "lowerdir+", name(layer)));
    if matches!(one_by_one, Err(Errno::INVAL)) {
        // Linux before 6.5 knows the list only.
        let list = lower.iter().map(name).collect::<Vec<_>>().join(":");
        rustix::mount::fsconfig_set_string(overlay, "lowerdir", list)?;
    } else {
        one_by_one?;
    }
    let (upper, work) = (open(&writable.join("upper"))?, open(&writable.join("work"))?);
    rustix::mount::fsconfig_set_string(overlay, "upperdir", name(&upper))?;
    rustix::mount::fsconfig_set_string(overlay, "workdir", name(&work))?;
    // What a container writes here ends with it, so a guest's fsync need not reach the disk.
    rustix::mount::fsconfig_set_flag(overlay, "volatile")?;
    rustix::mount::fsconfig_create(overlay)?;
    // Device nodes work: they are those of our own layer. Images bring none, and guests cannot make any.
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(rustix::mount::fsmount(overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
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
