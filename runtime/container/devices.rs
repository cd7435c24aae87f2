//! The devices that every program expects, as one more layer of each container's root: `/dev/null` and its like.
//!
//! All containers share it, since a device has no content. It lies over the layers of the image: what an image has packed
//! under these names are the empty files of some build.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

/// Name and minor number; the major number of all is 1, but for `tty`, whose is 5.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Directories that other runtimes have there, for mounts.
const DIRECTORIES: [&str; 3] = ["shm", "mqueue", "pts"];

/// Raised when the content below changes.
const VERSION: &str = "1";

/// The layer, made if it is not there. Where devices cannot be made it has none.
pub fn layer(directory: &Path) -> io::Result<PathBuf> {
    let layer = directory.join(VERSION);
    if layer.is_dir() {
        return Ok(layer);
    }
    std::fs::create_dir_all(directory)?;
    let new = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(directory)?;
    let dev = new.path().join("dev");
    std::fs::create_dir(&dev)?;
    rustix::fs::chmod(&dev, Mode::from_raw_mode(0o755))?;
    for (name, major, minor) in NODES {
        let path = dev.join(name);
        match mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor)) {
            // Whatever umask the daemon runs with.
            Ok(()) => rustix::fs::chmod(&path, Mode::from_raw_mode(0o666))?,
            Err(error) => tracing::warn!(name, %error, "containers do not have this device"),
        }
    }
    for name in DIRECTORIES {
        std::fs::create_dir(dev.join(name))?;
        rustix::fs::chmod(dev.join(name), Mode::from_raw_mode(0o755))?;
    }
    match std::fs::rename(new.path(), &layer) {
        Ok(()) => Ok(layer),
        // Another start was as quick.
        Err(_) if layer.is_dir() => Ok(layer),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_is_made_once_and_has_the_devices() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: the_layer_is_made_once_and_has_the_devices: needs root");
        }
        let place = tempfile::tempdir_in(std::env::var("CRI_WASM_TEST_DIR").unwrap_or("/var/tmp".into())).unwrap();
        let layer = super::layer(place.path()).unwrap();
        assert_eq!(super::layer(place.path()).unwrap(), layer);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
        // Not opened here: the file system of the tests may be mounted without devices.
        let zero = std::fs::metadata(layer.join("dev/zero")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::rdev(&zero), makedev(1, 5));
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&zero), 0o020_666);
        assert!(layer.join("dev/shm").is_dir());
    }
}
