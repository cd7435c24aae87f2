//! The file by which a forwarder is found: locked as long as it lives, with its process in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::HostPortError;
use crate::host::Process;

/// Between looks at a process that is about to be gone, or about to say who it is.
const PAUSE: Duration = Duration::from_millis(2);

/// The lock, held by whoever has the file open that it was taken with.
#[derive(Debug)]
pub(super) struct Lock(File);

/// Whether somebody has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Held {
    Yes,
    No,
    NoFile,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostPortError {
    let path = path.to_owned();
    move |source| HostPortError::File { action, path, source }
}

impl Lock {
    /// Takes it. The file is made, and empty.
    pub(super) fn take(path: &Path) -> Result<Self, HostPortError> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed("make the directory of", path))?;
        }
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(failed("make", path))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed("lock", path)(error.into()))?;
        file.set_len(0).map_err(failed("empty", path))?;
        Ok(Self(file))
    }

    /// Whether anybody has it.
    pub(super) fn look(path: &Path) -> io::Result<Held> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::NoFile),
            Err(error) => return Err(error),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Held::No),
            Err(Errno::WOULDBLOCK) => Ok(Held::Yes),
            Err(error) => Err(error.into()),
        }
    }

    /// The file, to be inherited.
    pub(super) fn into_file(self) -> File {
        self.0
    }
}

/// Ends whoever holds the lock of a file and removes the file. Blocks until that is done.
pub(super) fn end(path: &Path, deadline: Duration) -> Result<(), HostPortError> {
    let begun = Instant::now();
    loop {
        match Lock::look(path).map_err(failed("lock", path))? {
            Held::NoFile => return Ok(()),
            Held::No => break,
            Held::Yes => {}
        }
        // One that has just been started may not have said yet who it is.
        if let Some(process) = holder(path).map_err(failed("read", path))? {
            process.signal(libc::SIGKILL).map_err(failed("end the process of", path))?;
        }
        if begun.elapsed() > deadline {
            return Err(HostPortError::TimedOut { what: "end", after: deadline });
        }
        std::thread::sleep(PAUSE);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Who holds the lock of a file.
#[derive(Debug)]
pub(super) enum Watched {
    /// This process, as a pidfd.
    Process(OwnedFd),
    /// One that has not said yet who it is, or is just ending.
    Unknown,
    /// Nobody.
    Nobody,
}

/// Who holds the lock of a file. What cannot be read counts as nobody: a new start tells why.
pub(super) fn watch(path: &Path) -> Watched {
    match Lock::look(path) {
        Ok(Held::Yes) => match holder(path).ok().flatten().and_then(|process| process.open().ok().flatten()) {
            Some(descriptor) => Watched::Process(descriptor),
            None => Watched::Unknown,
        },
        Ok(Held::No | Held::NoFile) | Err(_) => Watched::Nobody,
    }
}

/// The process that stands in the file; `None`: not yet, or not whole.
fn holder(path: &Path) -> io::Result<Option<Process>> {
    const MOST: u64 = 4096;
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MOST).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(serde_json::from_slice(&text).ok())
}
