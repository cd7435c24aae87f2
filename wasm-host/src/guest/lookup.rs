//! What the kernel says about a path below an open directory, asked after a call of the guest has failed there.
//!
//! The process is in the container's root, so an absolute symbolic link means to the kernel what it means to the guest.
//! Links of `/proc` that lead anywhere but by their text are not followed: they could lead out of the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxFlags, fstatvfs, openat2, readlinkat, statx};
use rustix::io::Errno;

/// Most symbolic links at the end of a path, as in Linux.
const LINKS: usize = 40;

/// Why a call has failed that wasmtime takes for an input or output error, as it does not know the kernel's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Something would have changed on a file system that is mounted read-only: `EROFS`.
    ReadOnly,
    /// The paths are on different mounts, be it of the same file system: `EXDEV`.
    CrossDevice,
    /// This process has as many files open as it may: `EMFILE`.
    TooManyFiles,
}

/// Whether a path, as the guest has written it, names something below the directory that it starts from. Those that do not
/// are refused, as WASI demands; where symbolic links lead is another matter.
pub(super) fn is_below(path: &str) -> bool {
    let mut depth = 0_usize;
    let mut climbs = |part| match part {
        "" | "." => false,
        ".." if depth == 0 => true,
        ".." => {
            depth -= 1;
            false
        }
        _ => {
            depth += 1;
            false
        }
    };
    !path.is_empty() && !path.starts_with('/') && !path.split('/').any(&mut climbs)
}

/// Resolves `path` as the kernel would, but for its last name, which is followed only if it is a symbolic link and `follow`.
/// Returns the directory (opened for lookups only) and the name in it, which need not exist, as it may be about to be made.
///
/// # Errors
/// Why there is no such directory.
pub(super) fn resolve(directory: BorrowedFd<'_>, path: &str, follow: bool) -> Result<(OwnedFd, String), Errno> {
    let mut path = path.to_owned();
    let mut last: Option<OwnedFd> = None;
    for _ in 0..LINKS {
        let (above, name) = split(&path);
        let here = open(last.as_ref().map_or(directory, AsFd::as_fd), above, OFlags::DIRECTORY)?;
        let slash = if name.ends_with('/') { "/" } else { "" };
        match readlinkat(&here, name.trim_end_matches('/'), Vec::new()) {
            Ok(target) if follow => path = target.into_string().map_err(|_| Errno::ILSEQ)? + slash,
            _ => return Ok((here, name.to_owned())),
        }
        last = Some(here);
    }
    Err(Errno::LOOP)
}

/// The target of the symbolic link at `path`.
///
/// # Errors
/// Why there is none.
pub(super) fn read_link(directory: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, Errno> {
    let (above, name) = resolve(directory, path, false)?;
    Ok(readlinkat(above, name, Vec::new())?.into_bytes())
}

/// The directory of a path and the name in it, with the slashes that end it.
fn split(path: &str) -> (&str, &str) {
    let text = path.trim_end_matches('/');
    let (above, name) = path.split_at(text.rfind('/').map_or(0, |slash| slash + 1));
    match (above, name.trim_end_matches('/')) {
        // The root, or the directory above one: not a name in a directory.
        (_, "" | "..") => (path, "."),
        ("", _) => (".", name),
        _ => (above, name),
    }
}

fn open(directory: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat2(directory, path, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

/// Why a call that would change something at these paths has failed, if it is one of the reasons that wasmtime does not know.
/// `follow`: the call follows a symbolic link at the end of a path.
pub(super) fn explain<'a>(places: impl IntoIterator<Item = (BorrowedFd<'a>, &'a str)>, follow: bool) -> Option<Reason> {
    let mut before = None;
    let mut reason = None;
    for (directory, path) in places {
        let (above, name) = match resolve(directory, path, follow) {
            Ok(found) => found,
            Err(Errno::MFILE | Errno::NFILE) => return Some(Reason::TooManyFiles),
            Err(_) => continue,
        };
        // What is there, or else the directory that it would be in.
        let there = match open(above.as_fd(), &name, OFlags::NOFOLLOW) {
            Ok(there) => there,
            Err(Errno::MFILE | Errno::NFILE) => return Some(Reason::TooManyFiles),
            Err(_) => above,
        };
        if is_read_only(there.as_fd()) {
            return Some(Reason::ReadOnly);
        }
        // Not the device: one file system may be mounted many times, and still nothing is moved from one mount to another.
        let mount = statx(&there, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok().map(|status| status.stx_mnt_id);
        if before.is_some_and(|before| before != mount) {
            reason = Some(Reason::CrossDevice);
        }
        before = Some(mount);
    }
    reason
}

/// Whether an open file is on a file system that is mounted read-only.
pub(super) fn is_read_only(file: BorrowedFd<'_>) -> bool {
    fstatvfs(file).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_that_climb_above_their_start_are_told_by_their_text() {
        for path in ["a", "a/b", "./a", "a/..", "a/../b", "a/b/../..", "a//", "..a", "a/..."] {
            assert!(is_below(path), "{path}");
        }
        for path in ["", "/", "/a", "..", "../a", "a/../..", "./..", "a/../../b"] {
            assert!(!is_below(path), "{path}");
        }
    }

    #[test]
    fn a_path_is_split_before_its_last_name() {
        for (path, expected) in [
            ("a", (".", "a")),
            ("a/b", ("a/", "b")),
            ("a//b//", ("a//", "b//")),
            ("/a", ("/", "a")),
            ("/", ("/", ".")),
            ("a/..", ("a/..", ".")),
            ("../", ("../", ".")),
            ("a/.", ("a/", ".")),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn links_are_followed_in_the_root_of_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("real/inner")).unwrap();
        for (name, target) in [
            ("absolute", at("real")),
            ("relative", "real".into()),
            ("new", at("real/new")),
            ("twice", at("new")),
            ("loop", at("loop")),
        ] {
            symlink(target, at(name)).unwrap();
        }
        let start = File::open(directory.path()).unwrap();
        let resolved = |path: &str, follow| {
            let (found, name) = resolve(start.as_fd(), path, follow)?;
            let same = |name: &str| {
                let (a, b) = (rustix::fs::fstat(&found).unwrap(), rustix::fs::stat(at(name)).unwrap());
                (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
            };
            let above = ["", "real", "real/inner"].into_iter().find(|name| same(name)).unwrap();
            Ok((above, name))
        };
        let is = |above, name: &str| Ok((above, name.to_owned()));
        assert_eq!(resolved("absolute/x", false), is("real", "x"));
        assert_eq!(resolved("absolute/inner/x", false), is("real/inner", "x"));
        assert_eq!(resolved("absolute", false), is("", "absolute"));
        assert_eq!(resolved("absolute", true), is("", "real"));
        assert_eq!(resolved("absolute/", true), is("", "real/"));
        assert_eq!(resolved("relative/x", true), is("real", "x"));
        assert_eq!(resolved("twice", true), is("real", "new"));
        assert_eq!(resolved("absolute/inner/..", true), is("real", "."));
        assert_eq!(resolved("loop", true), Err(Errno::LOOP));
        assert_eq!(resolved("missing/x", true), Err(Errno::NOENT));
        // A link that leads by more than its text.
        assert_eq!(resolve(rustix::fs::CWD, "/proc/self/cwd/x", true).err(), Some(Errno::LOOP));
    }

    #[test]
    fn what_changes_nothing_special_has_no_special_reason() {
        let directory = tempfile::tempdir().unwrap();
        let start = File::open(directory.path()).unwrap();
        assert_eq!(explain([(start.as_fd(), "a"), (start.as_fd(), "b")], false), None);
        assert_eq!(explain([(start.as_fd(), "missing/a")], false), None);
        assert_eq!(explain([(start.as_fd(), "a"), (rustix::fs::CWD, "/proc/a")], false), Some(Reason::CrossDevice));
    }
}
