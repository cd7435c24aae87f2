//! Namespaces that are held by a bind mount on a file.
//!
//! The mount keeps a namespace while no process is in it, and a daemon that starts again finds it by its path. A namespace is made by a
//! thread that ends right afterwards: a thread of the async runtime must never leave the node's.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Mode, OFlags, statfs};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

/// `f_type` of the kernel's namespace files (linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Why a namespace could not be pinned, opened or removed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The name is not the name of a file.
    #[error("{0:?} cannot be the name of a namespace")]
    BadName(String),
    /// A namespace of this name is there already.
    #[error("namespace {0} exists")]
    Exists(PathBuf),
    /// Nothing, or something else, is at the path.
    #[error("{0} is not a namespace")]
    NotPinned(PathBuf),
    /// Another step failed.
    #[error("cannot {step} {path}")]
    Step {
        /// What was to be done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// A step that failed.
pub(crate) fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    let path = path.to_owned();
    move |source| PinError::Step { step, path, source }
}

/// Makes the file at `dir/name` that a namespace can be pinned at.
///
/// # Errors
/// The name is none, or a namespace is pinned there.
pub fn place(dir: &Path, name: &str) -> Result<PathBuf, PinError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(PinError::BadName(name.to_owned()));
    }
    let path = dir.join(name);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed("make directory", dir))?;
    if is_pinned(&path) {
        return Err(PinError::Exists(path));
    }
    // What is not pinned is the empty file that a reboot has left, or that a daemon which was killed in between has.
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed("replace", &path)(source)),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path).map_err(failed("make file", &path))?;
    Ok(path)
}

/// Pins a namespace that a process or thread is in (a file of `/proc/…/ns/`) at a [`place`].
///
/// # Errors
/// The kernel's.
pub fn pin(namespace: &Path, path: &Path) -> Result<(), PinError> {
    mount_bind(namespace, path).map_err(|errno| failed("pin a namespace at", path)(errno.into()))
}

/// Opens a pinned namespace.
///
/// # Errors
/// There is none at the path.
pub fn open(path: &Path) -> Result<OwnedFd, PinError> {
    if !is_pinned(path) {
        return Err(PinError::NotPinned(path.to_owned()));
    }
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| failed("open", path)(errno.into()))
}

/// Lets a namespace go and removes its file. What is gone is removed.
///
/// # Errors
/// The file stays.
pub fn remove(path: &Path) -> Result<(), PinError> {
    loop {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // One may lie above another.
            Ok(()) => {}
            // Not a mount point, or not there.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => break,
            Err(errno) => return Err(failed("unmount", path)(errno.into())),
        }
    }
    match fs::remove_file(path) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(failed("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Whether a namespace is pinned at the path.
pub fn is_pinned(path: &Path) -> bool {
    // The field's type differs between architectures.
    statfs(path).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| magic == NSFS_MAGIC))
}

/// Runs something on a thread that ends with it, and takes the namespaces that it has entered along.
///
/// # Errors
/// Those of `work`; there is no thread to be had.
pub fn on_a_thread<T: Send, E: From<PinError> + Send>(path: &Path, work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E> {
    let failed = |text: &str| E::from(failed("run a thread for", path)(io::Error::other(text.to_owned())));
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| failed(&error.to_string()))?;
        thread.join().map_err(|_| failed("the thread panicked"))?
    })
}
