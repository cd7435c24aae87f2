//! The file system that the writable layers lie on.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// What it is mounted from, such as `/dev/vda1`.
    pub device: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its inodes; 0 where it has no fixed number.
    pub inodes: u64,
    /// Those of them that are free.
    pub free_inodes: u64,
}

impl Filesystem {
    /// Of a directory. What cannot be found out is 0. `device` is what [`device`] found for it.
    pub fn of(directory: &Path, device: &str) -> Self {
        let Ok(found) = rustix::fs::statvfs(directory) else {
            return Self { device: device.to_owned(), ..Self::default() };
        };
        Self {
            device: device.to_owned(),
            bytes: found.f_blocks.saturating_mul(found.f_frsize),
            inodes: found.f_files,
            free_inodes: found.f_ffree,
        }
    }
}

/// What the file system of a directory is mounted from; the number of its device where that is not in the table of mounts. A
/// node may have thousands of mounts, so this is asked once.
pub fn device(directory: &Path) -> String {
    let Ok(number) = directory.metadata().map(|metadata| metadata.dev()) else { return String::new() };
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    source(&mounts, &number).unwrap_or(number)
}

/// The source of the first mount of a device; in `mountinfo` that is the second field behind the hyphen.
fn source(mounts: &str, number: &str) -> Option<String> {
    let of_device = mounts.lines().find(|line| line.split(' ').nth(2) == Some(number))?;
    let (_, behind) = of_device.split_once(" - ")?;
    behind.split(' ').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_what_it_is_mounted_from() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n31 22 0:28 / /run rw - tmpfs tmpfs rw\nodd\n";
        assert_eq!(source(mounts, "254:0").as_deref(), Some("/dev/vda"));
        assert_eq!(source(mounts, "0:28").as_deref(), Some("tmpfs"));
        assert_eq!(source(mounts, "9:9"), None);
    }

    #[test]
    fn a_file_system_has_a_size_and_a_missing_one_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let found = Filesystem::of(directory.path(), &device(directory.path()));
        assert!(found.bytes > 1 << 20 && !found.device.is_empty(), "{found:?}");
        assert!(found.free_inodes <= found.inodes, "{found:?}");
        assert_eq!(Filesystem::of(Path::new("/nonexistent"), "x"), Filesystem { device: "x".into(), ..Filesystem::default() });
    }
}
