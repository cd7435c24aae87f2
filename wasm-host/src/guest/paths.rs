//! Paths of a guest, as the kernel sees them: the process is in the container's root, so both mean the same files.

use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;

use super::errno::{EACCES, EINVAL, EIO, ELOOP, EMFILE, ENOENT, ENOTDIR, EPERM, EROFS, EXDEV};
use super::lookup::{self, Reason};

/// Most symbolic links on the way of a path, as in Linux.
const LINKS: usize = 40;

/// Resolves an absolute path as the kernel would, symbolic links and all; the last one only if `follow`. What it leads to
/// need not exist, as it may be about to be made. The result is relative to the root. `None`: there is nothing to resolve.
///
/// # Errors
/// The number of why the path leads nowhere.
pub(super) fn resolve(path: &Path, follow: bool) -> Result<Option<String>, i32> {
    let canonical = |path: &Path| std::fs::canonicalize(path).map_err(|error| Errno::from_io_error(&error).map_or(EPERM, number));
    let mut resolved = path.to_owned();
    for _ in 0..LINKS {
        resolved = match (resolved.parent(), resolved.file_name()) {
            (Some(parent), Some(name)) => canonical(parent)?.join(name),
            // It ends in `..`, or is the root.
            _ => canonical(&resolved)?,
        };
        match (std::fs::read_link(&resolved), resolved.parent()) {
            (Ok(target), Some(parent)) if follow => resolved = parent.join(target),
            _ => {
                let below = resolved.strip_prefix("/").ok().and_then(Path::to_str).ok_or(EPERM)?;
                let below = if below.is_empty() { "." } else { below };
                return Ok((resolved != path).then(|| below.to_owned()));
            }
        }
    }
    Err(ELOOP)
}

/// The target of a symbolic link, given by an absolute path.
///
/// # Errors
/// The number of why there is none.
pub(super) fn read_link(path: &Path) -> Result<Vec<u8>, i32> {
    let path = path.to_str().ok_or(EPERM)?;
    lookup::read_link(CWD, path).map_err(number)
}

/// A path without slashes at its end, unless it has nothing else.
pub(super) fn without_slashes(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => path,
        trimmed => trimmed,
    }
}

/// Writes a directory, given by an absolute path, to its disk. Returns an error number, or 0.
pub(super) fn sync_directory(path: &Path) -> i32 {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    match opened.and_then(rustix::fs::fsync) {
        Ok(()) => 0,
        Err(Errno::IO) => EIO,
        Err(Errno::ROFS) => EROFS,
        Err(error) => number(error),
    }
}

/// The number of a reason that wasmtime does not know.
pub(super) fn reason(reason: Reason) -> i32 {
    match reason {
        Reason::ReadOnly => EROFS,
        Reason::CrossDevice => EXDEV,
        Reason::TooManyFiles => EMFILE,
    }
}

fn number(error: Errno) -> i32 {
    match error {
        Errno::INVAL => EINVAL,
        Errno::NOENT => ENOENT,
        Errno::ACCESS => EACCES,
        Errno::NOTDIR => ENOTDIR,
        Errno::LOOP => ELOOP,
        _ => EPERM,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn paths_are_resolved_as_the_kernel_does() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        let below = |name: &str| at(name).strip_prefix("/").unwrap().to_str().unwrap().to_owned();
        std::fs::create_dir(at("real")).unwrap();
        for (name, target) in [
            ("absolute", at("real")),
            ("relative", PathBuf::from("real")),
            ("twice", at("absolute")),
            ("new", at("real/new")),
            ("broken", PathBuf::from("/no/such/file")),
            ("loop", at("loop")),
        ] {
            symlink(target, at(name)).unwrap();
        }
        assert_eq!(resolve(&at("real"), true), Ok(None));
        assert_eq!(resolve(&at("missing"), true), Ok(None));
        assert_eq!(resolve(&at("absolute"), true), Ok(Some(below("real"))));
        assert_eq!(resolve(&at("absolute"), false), Ok(None));
        assert_eq!(resolve(&at("absolute/file"), false), Ok(Some(below("real/file"))));
        assert_eq!(resolve(&at("twice/a"), true), Ok(Some(below("real/a"))));
        assert_eq!(resolve(&at("relative/.."), true), Ok(Some(below("").trim_end_matches('/').to_owned())));
        assert_eq!(resolve(&at("new"), true), Ok(Some(below("real/new"))));
        assert_eq!(resolve(&at("broken"), true), Err(ENOENT));
        assert_eq!(resolve(&at("loop"), true), Err(ELOOP));
        assert_eq!(resolve(Path::new("/"), true), Ok(None));
    }
}
