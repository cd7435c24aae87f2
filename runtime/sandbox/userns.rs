//! User namespaces of pods (`hostUsers: false`): the ids of a pod's guests are those of nobody else on the node.
//!
//! A pod has one, pinned in the state directory, and its network namespace belongs to it. Guests enter it as the last step before they
//! become their user, so that everything before is done by the node's root; files keep the ids that the container sees, by id-mapped
//! mounts of the root's layers and of the volumes that the kubelet marks.
//!
//! A process of several threads cannot make a user namespace, so the daemon forks for it: a child that unshares, waits until its
//! parent has written the maps and pinned the namespaces, and ends.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions};
use tokio::sync::OnceCell;

use super::metadata::{IdRange, SandboxMetadata, UserNamespace};
use crate::config::Config;
use crate::container::rootfs;
use crate::pinned::{self, PinError};

/// Ids with which the kernel is tried. Any will do: nothing is made with them that stays.
const TRIED: UserNamespace =
    UserNamespace { users: IdRange { first: 65_536, count: 65_536 }, groups: IdRange { first: 65_536, count: 65_536 } };

/// What the names of directories begin with in which the kernel is tried, in the root directory.
pub const TRY_PREFIX: &str = "try-";

/// Why a pod has no user namespace.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// It cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The kernel refuses one.
    #[error("cannot {step}")]
    Step {
        /// What was to be done.
        step: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> UsernsError {
    move |source| UsernsError::Step { step, source }
}

/// Where they are pinned.
pub fn directory(config: &Config) -> PathBuf {
    config.state.join("users")
}

/// Where a sandbox's is pinned, if it has one.
pub fn namespace(config: &Config, metadata: &SandboxMetadata) -> PathBuf {
    directory(config).join(metadata.id.as_str())
}

/// Makes and pins one. `with_it` is told where `/proc` shows the namespaces of the process that made it, its network namespace among
/// them if `network`; they are gone when that returns, unless it has pinned them. It blocks for about a millisecond.
///
/// # Errors
/// A step failed, or `with_it` did; then nothing is left behind here.
pub fn create<E: From<UsernsError>>(
    path: &Path,
    mapping: &UserNamespace,
    network: bool,
    with_it: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(UsernsError::from(PinError::BadName(path.display().to_string())).into());
    };
    let path = pinned::place(directory, name).map_err(UsernsError::from)?;
    let made = make(mapping, network).map_err(E::from).and_then(|maker| {
        let namespaces = maker.namespaces();
        pinned::pin(&namespaces.join("user"), &path).map_err(UsernsError::from)?;
        with_it(&namespaces)
    });
    if made.is_err() {
        // The first error is the one to tell.
        let _ = pinned::remove(&path);
    }
    made
}

/// Whether this node can run pods in user namespaces. Tried once; `Err` says what is missing.
#[derive(Debug, Default)]
pub struct Support(OnceCell<Result<(), String>>);

impl Support {
    /// Tries it, or says what was found before.
    pub async fn look(&self, config: &Config) -> Result<(), String> {
        let found = self.0.get_or_init(|| async {
            let root = config.root.clone();
            let tried = tokio::task::spawn_blocking(move || probe(&root)).await;
            let found = tried.unwrap_or_else(|_| Err("it could not be tried".to_owned()));
            if let Err(reason) = &found {
                tracing::info!(reason, "pods with hostUsers: false cannot run here");
            }
            found
        });
        found.await.clone()
    }
}

/// Makes a namespace, and a root file system whose layers are id-mapped, where containers have theirs.
///
/// # Errors
/// What is missing, in words.
pub fn probe(root: &Path) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| crate::store::chain(error);
    let maker = make(&TRIED, true).map_err(|error| said(&error))?;
    let namespace = maker.open().map_err(|error| said(&error))?;
    let place = tempfile::Builder::new().prefix(TRY_PREFIX).tempdir_in(root).map_err(|error| said(&error))?;
    let layer = place.path().join("layer");
    let work = || -> io::Result<()> {
        fs::create_dir(&layer)?;
        rootfs::prepare(place.path(), Some((TRIED.users.first, TRIED.groups.first)))?;
        let mount = rootfs::mount(std::slice::from_ref(&layer), place.path(), Some(&namespace))?;
        // overlayfs falls back to read-only where it cannot write.
        fs::write(format!("/proc/self/fd/{}/file", mount.as_raw_fd()), "")
    };
    work().map_err(|error| format!("layers in {} cannot be id-mapped: {error}", root.display()))
}

/// The child that is in the new namespaces. Dropping this ends it.
struct Maker {
    child: Pid,
    /// Its end: the child waits for nothing else.
    wait: Option<OwnedFd>,
}

impl Maker {
    fn namespaces(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns", self.child.as_raw_nonzero()))
    }

    fn open(&self) -> Result<OwnedFd, UsernsError> {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(self.namespaces().join("user"), flags, rustix::fs::Mode::empty())
            .map_err(|error| failed("open a user namespace")(error.into()))
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.wait = None;
        // It does nothing but end; who else would wait for it has no reason to.
        let _ = rustix::process::waitpid(Some(self.child), WaitOptions::empty());
    }
}

fn make(mapping: &UserNamespace, network: bool) -> Result<Maker, UsernsError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed("make a pipe")(error.into()));
    let ((said, says), (waits, wait)) = (pipe()?, pipe()?);
    let flags = libc::CLONE_NEWUSER | if network { libc::CLONE_NEWNET } else { 0 };
    let child = fork(flags, &says, &waits)?;
    // Whatever fails from here on ends the child.
    let maker = Maker { child, wait: Some(wait) };
    drop((says, waits));
    let mut errno = [0; 4];
    match rustix::io::read(&said, &mut errno) {
        Ok(4) if errno == [0; 4] => {}
        Ok(4) => return Err(failed("make a user namespace")(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))),
        Ok(_) => return Err(failed("make a user namespace")(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => return Err(failed("hear of a user namespace")(error.into())),
    }
    let map = |file: &str, range: IdRange| {
        let path = format!("/proc/{}/{file}", child.as_raw_nonzero());
        fs::write(path, format!("0 {} {}", range.first, range.count)).map_err(failed("write the map of a user namespace"))
    };
    map("uid_map", mapping.users)?;
    map("gid_map", mapping.groups)?;
    Ok(maker)
}

/// Forks a child that unshares, tells the error number, waits for the end of `waits`, and ends.
fn fork(flags: i32, says: &OwnedFd, waits: &OwnedFd) -> Result<Pid, UsernsError> {
    let (says, waits) = (says.as_raw_fd(), waits.as_raw_fd());
    // SAFETY: this process has several threads, so the child may only make system calls: no memory is allocated, no lock taken and
    // nothing dropped in it, and it leaves through _exit. The buffers are its own.
    unsafe {
        match libc::fork() {
            -1 => Err(failed("fork")(io::Error::last_os_error())),
            0 => {
                let errno = if libc::unshare(flags) == 0 { 0 } else { *libc::__errno_location() };
                // Without the daemon's descriptors: the other end of the pipe is among them, and so are its sockets.
                let (low, high) = (says.min(waits).unsigned_abs(), says.max(waits).unsigned_abs());
                for (first, last) in [(0, low - 1), (low + 1, high - 1), (high + 1, u32::MAX)] {
                    if first <= last {
                        libc::syscall(libc::SYS_close_range, first, last, 0u32);
                    }
                }
                let text = errno.to_ne_bytes();
                libc::write(says, text.as_ptr().cast(), text.len());
                let mut nothing = 0u8;
                libc::read(waits, (&raw mut nothing).cast(), 1);
                libc::_exit(0)
            }
            child => Pid::from_raw(child).ok_or_else(|| failed("fork")(io::ErrorKind::NotFound.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            eprintln!("skipped: needs root");
        }
        is_root
    }

    #[test]
    fn a_namespace_is_pinned_with_its_maps_and_its_maker_is_gone() {
        if !is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("users/s1");
        let mapping =
            UserNamespace { users: IdRange { first: 100_000, count: 1000 }, groups: IdRange { first: 200_000, count: 500 } };
        let mut seen = None;
        create(&path, &mapping, true, |namespaces| {
            let of = |file: &str| fs::read_to_string(namespaces.parent().unwrap().join(file)).unwrap();
            let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(
                (words(of("uid_map")), words(of("gid_map"))),
                (["0", "100000", "1000"].map(str::to_owned).to_vec(), ["0", "200000", "500"].map(str::to_owned).to_vec())
            );
            assert_ne!(fs::read_link(namespaces.join("net")).unwrap(), fs::read_link("/proc/self/ns/net").unwrap());
            seen = Some(namespaces.to_owned());
            Ok::<_, UsernsError>(())
        })
        .unwrap();
        assert!(pinned::is_pinned(&path));
        assert!(!seen.unwrap().exists(), "the maker has ended and is reaped");
        pinned::remove(&path).unwrap();

        let failed = create(&path, &mapping, false, |_| Err(failed("do more")(io::ErrorKind::Other.into())));
        assert!(failed.unwrap_err().to_string().contains("do more"));
        assert!(!path.exists());
    }

    #[test]
    fn what_the_kernel_does_not_map_is_an_error_that_leaves_nothing() {
        if !is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("users/s1");
        let mapping = UserNamespace { users: IdRange { first: u32::MAX, count: 2 }, ..TRIED };
        assert!(create(&path, &mapping, false, |_| Ok::<_, UsernsError>(())).is_err());
        assert!(!path.exists());
    }
}
