//! Finds what a command names, in the files of a container that runs: its image under what it has written, and all that is
//! mounted there.
//!
//! The container's root is looked at from outside, through its process. Paths are resolved by the kernel as if that root
//! were `/`, so no link of a hostile container leads out of it.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use images::{FileKind, Images};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::ExecError;
use crate::container::entrypoint::{self, EntrypointError, Module, Node, Program, SCRIPT_LINE, Tree};
use crate::container::{Container, GuestUser};
use crate::host::Process;
use crate::state::Runtime;

/// What a command starts, and the wasm file itself.
pub async fn find(
    runtime: &Arc<Runtime>,
    container: &Arc<Container>,
    target: &Process,
    command: &[String],
) -> Result<(Program, File), ExecError> {
    let (images, container) = (runtime.images.clone(), Arc::clone(container));
    let (target, command) = (target.clone(), command.to_vec());
    let found = move || {
        let root = match root(&target) {
            Ok(root) => root,
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::SRCH | Errno::NOENT)) => {
                return Err(super::not_running(&container));
            }
            Err(error) => return Err(ExecError::system("opening the container's root")(error)),
        };
        let process = &container.metadata().process;
        let tree = RunningTree { images: &images, root, user: &process.user, last: RefCell::new(None) };
        let program = entrypoint::find(&tree, &command, &process.working_dir, images::search_path(&process.env))?;
        let file =
            tree.last.into_inner().ok_or_else(|| EntrypointError::NotFound(command.first().cloned().unwrap_or_default()))?;
        Ok((program, file))
    };
    tokio::task::spawn_blocking(found).await.map_err(|_| ExecError::Cancelled)?
}

/// The root of a process, which is still that process after it was opened.
fn root(target: &Process) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{}/root", target.pid), flags, Mode::empty())?;
    if target.is_alive() { Ok(root) } else { Err(Errno::SRCH.into()) }
}

struct RunningTree<'a> {
    images: &'a Images,
    root: OwnedFd,
    user: &'a GuestUser,
    /// The wasm file that was found last, which is the one that is run.
    last: RefCell<Option<File>>,
}

impl Tree for RunningTree<'_> {
    fn look(&self, path: &Path) -> Result<Node, String> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(Node::Missing),
            Err(error) => return Err(error.to_string()),
        };
        let status = rustix::fs::fstat(&found).map_err(|error| error.to_string())?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => return Ok(Node::Directory),
            FileType::RegularFile if may_run(self.user, &status) => {}
            _ => return Ok(Node::Denied),
        }
        self.examine(&found, path).map_err(|error| error.to_string())
    }
}

impl RunningTree<'_> {
    fn examine(&self, found: &OwnedFd, path: &Path) -> std::io::Result<Node> {
        use std::os::unix::fs::FileExt;
        let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        Ok(match self.images.examine(&file)? {
            FileKind::Wasm { digest } => {
                self.last.replace(Some(file));
                Node::Wasm(Module { path: path.to_owned(), digest })
            }
            FileKind::Script => {
                let mut line = vec![0; SCRIPT_LINE];
                let length = file.read_at(&mut line, 0)?;
                line.truncate(length);
                Node::Script(line)
            }
            FileKind::Elf => Node::Native,
            FileKind::Precompiled => Node::Precompiled,
            FileKind::Directory => Node::Directory,
            FileKind::Other => Node::Other,
        })
    }
}

/// Whether the file's mode lets the user execute or read it. Reading is enough: an artifact's module has no bit to execute.
fn may_run(user: &GuestUser, status: &Stat) -> bool {
    let bits = if user.uid == 0 {
        return true;
    } else if status.st_uid == user.uid {
        status.st_mode >> 6
    } else if status.st_gid == user.gid || user.groups.contains(&status.st_gid) {
        status.st_mode >> 3
    } else {
        status.st_mode
    };
    bits & 0o5 != 0
}
