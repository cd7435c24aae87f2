//! Small files of the container that the host reads for its guest.
//!
//! The process is in the container's root with the container's user, so a path means what it means to the guest. Symbolic links are
//! followed, as Kubernetes makes keys of ConfigMaps of them; those of `/proc` that lead anywhere but by their text are not: they
//! could lead out of the container.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

/// Opens a directory; `None` where there is none.
pub(super) fn directory(path: &Path) -> io::Result<Option<OwnedFd>> {
    match open(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is in a file; `None` where there is none, or something else of that name.
///
/// # Errors
/// It cannot be read, or is larger than `most` bytes.
pub(super) fn read(directory: BorrowedFd<'_>, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    // A FIFO or a device must not make anybody wait.
    let file = match open(directory, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::from(file).take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes")));
    }
    Ok(Some(bytes))
}

/// Whether there is a file of a name.
pub(super) fn is_there(directory: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    match open(directory, name, OFlags::PATH) {
        Ok(file) => Ok(FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Names in a directory that are text, not hidden and not those of directories, in no order.
pub(super) fn names(directory: BorrowedFd<'_>) -> io::Result<impl Iterator<Item = io::Result<String>>> {
    let entries = Dir::read_from(directory)?;
    Ok(entries.filter_map(|entry| match entry {
        Ok(entry) if entry.file_type() == FileType::Directory => None,
        Ok(entry) => entry.file_name().to_str().ok().filter(|name| !name.starts_with('.')).map(|name| Ok(name.to_owned())),
        Err(error) => Some(Err(error.into())),
    }))
}

fn open(at: impl AsFd, path: impl rustix::path::Arg, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat2(at, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_and_what_is_no_file_is_not_there() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("..data")).unwrap();
        fs::write(at("..data/key"), "value").unwrap();
        symlink("..data/key", at("key")).unwrap();
        symlink("/proc/self/fd/0", at("magic")).unwrap();
        symlink("loop", at("loop")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let directory = directory(place.path()).unwrap().unwrap();
        assert_eq!(read(directory.as_fd(), "key", 5).unwrap(), Some(b"value".to_vec()));
        assert_eq!(read(directory.as_fd(), "key", 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for name in ["..data", "fifo", "nothing", "key/below"] {
            assert_eq!(read(directory.as_fd(), name, 5).unwrap(), None, "{name}");
        }
        for name in ["magic", "loop"] {
            assert!(read(directory.as_fd(), name, 5).is_err(), "{name}");
        }
        let mut names: Vec<String> = names(directory.as_fd()).unwrap().map(Result::unwrap).collect();
        names.sort();
        assert_eq!(names, ["fifo", "key", "loop", "magic"]);
        assert!(super::directory(&at("missing")).unwrap().is_none());
        assert!(super::directory(&at("key")).unwrap().is_none());
    }
}
