//! Who is in a group, and how they are killed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{CgroupError, files};

/// How long killed processes may take to leave. A guest is gone within milliseconds; one that hangs in the kernel
/// (a dead NFS server) is not gone after minutes either.
const DEADLINE: Duration = Duration::from_secs(2);

/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The processes of these directories and of those below them, sorted.
pub(super) fn list(directories: &[PathBuf]) -> Result<Vec<i32>, CgroupError> {
    let mut found = BTreeSet::new();
    for directory in directories {
        collect(directory, &mut found)?;
    }
    Ok(found.into_iter().collect())
}

fn collect(directory: &Path, found: &mut BTreeSet<i32>) -> Result<(), CgroupError> {
    let text = match files::read(&directory.join("cgroup.procs")) {
        Ok(text) => text,
        Err(CgroupError::Read { source, .. }) if is_gone(&source) => return Ok(()),
        Err(error) => return Err(error),
    };
    // A process of a foreign PID namespace reads as 0, and cannot be named.
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(()),
        Err(source) => return Err(CgroupError::Read { path: directory.to_owned(), source }),
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect(&entry.path(), found)?;
    }
    Ok(())
}

/// A group that goes while it is read answers ENODEV instead of ENOENT.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// Kills until nobody is left or the deadline is reached; who is left is returned.
pub(super) fn kill(directories: &[PathBuf], unified: bool) -> Result<Vec<i32>, CgroupError> {
    let deadline = Instant::now() + DEADLINE;
    let mut pause = Duration::from_millis(1);
    // `cgroup.kill` (Linux 5.14) also gets processes that fork meanwhile. Without it the loop is repeated until
    // nobody new comes.
    let at_once = unified && directories.iter().all(|directory| files::write(&directory.join("cgroup.kill"), "1").is_ok());
    loop {
        let alive = list(directories)?;
        if alive.is_empty() {
            return Ok(alive);
        }
        if !at_once {
            kill_each(&alive, directories)?;
        }
        if Instant::now() >= deadline {
            return Ok(alive);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A pid may have been given to somebody else between the list and the signal. A pidfd does not change its process, so
/// the list is read again once all are open: who is on both lists was in the group all the while.
fn kill_each(pids: &[i32], directories: &[PathBuf]) -> Result<(), CgroupError> {
    let mut opened: Vec<(i32, OwnedFd)> = Vec::with_capacity(pids.len());
    for &number in pids {
        let Some(pid) = Pid::from_raw(number) else { continue };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => opened.push((number, descriptor)),
            Err(Errno::SRCH) => {}
            Err(errno) => return Err(CgroupError::Kill { pid: number, source: io::Error::from(errno) }),
        }
    }
    let still_in: BTreeSet<i32> = list(directories)?.into_iter().collect();
    for (pid, descriptor) in opened.into_iter().filter(|(pid, _)| still_in.contains(pid)) {
        match pidfd_send_signal(&descriptor, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(CgroupError::Kill { pid, source: io::Error::from(errno) }),
        }
    }
    Ok(())
}
