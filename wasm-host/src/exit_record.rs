//! The files that tell of a guest process without anybody's help: `<guest>.run`, `.outcome`, `.exit` and `.ctl`.
//!
//! ```text
//!            supervisor, before the guest's code runs        guest process, at its end         supervisor, when it has reaped
//!   .run     pid, start ticks, start time
//!   .outcome                                                 what it uses; at its end: exit code, reason, message
//!   .exit                                                                                      the joined record
//!   .ctl     datagram socket that the guest listens on; the daemon sends the new log there
//! ```
//! They lie in one directory on tmpfs and belong to the guest until the daemon has copied the record and deletes them. Each is written
//! whole, by rename, except `.outcome`, which an unprivileged process fills through a descriptor that it was given; a torn one does not
//! decode and counts as absent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use prost::Message;
use rustix::fs::{AtFlags, Mode, OFlags};

use crate::protocol::{ExitRecord, GuestUsage, Outcome, Started};

/// Longest file read back: a record is at most a message of 4 KiB and a few numbers.
const MAX_FILE: usize = 64 * 1024;

/// `true` for 1 to 128 characters of `[a-zA-Z0-9_.-]` that do not start with a dot, so that a guest's name is a file's name.
pub fn is_valid_name(guest: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=128).contains(&guest.len()) && guest.bytes().all(fits) && !guest.starts_with('.')
}

/// The directory that holds the files of all guests.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// What the files say of one guest.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// It was started; whether it still runs is for the reader to see.
    Started(Started, Option<Outcome>),
    /// Its supervisor reaped it.
    Ended(ExitRecord),
    /// Its start was cut off before a process was recorded.
    Nothing,
}

impl Directory {
    /// Opens the directory, which exists.
    pub fn open(path: impl rustix::path::Arg) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// For the guest to write its outcome into, whoever it will be then.
    pub fn create_outcome(&self, guest: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.0, format!("{guest}.outcome"), flags, Mode::from_raw_mode(0o600))?)
    }

    /// Records a started process.
    pub fn write_started(&self, guest: &str, started: &Started) -> io::Result<()> {
        self.replace(guest, "run", &started.encode_to_vec())
    }

    /// Records an end.
    pub fn write_exit(&self, guest: &str, record: &ExitRecord) -> io::Result<()> {
        self.replace(guest, "exit", &record.encode_to_vec())
    }

    /// What the guest said itself, if it could.
    pub fn read_outcome(&self, guest: &str) -> Option<Outcome> {
        let bytes = self.read(guest, "outcome").ok()?;
        // An empty file decodes as an empty message; a real outcome always has a reason.
        Outcome::decode(bytes.as_slice()).ok().filter(|outcome| !outcome.reason.is_empty())
    }

    /// What a guest that runs says it uses. `None`: it has ended, or was started by a supervisor that did not ask.
    pub fn read_usage(&self, guest: &str) -> Option<GuestUsage> {
        let bytes = self.read(guest, "outcome").ok()?;
        Outcome::decode(bytes.as_slice()).ok()?.usage
    }

    /// All that is known of a guest.
    pub fn seen(&self, guest: &str) -> Seen {
        if let Some(record) = self.read(guest, "exit").ok().and_then(|bytes| ExitRecord::decode(bytes.as_slice()).ok()) {
            return Seen::Ended(record);
        }
        match self.read(guest, "run").ok().and_then(|bytes| Started::decode(bytes.as_slice()).ok()) {
            Some(started) => Seen::Started(started, self.read_outcome(guest)),
            None => Seen::Nothing,
        }
    }

    /// Names of all guests that have a file.
    pub fn guests(&self) -> io::Result<Vec<String>> {
        let mut guests = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Some((guest, "run" | "outcome" | "exit" | "ctl")) = name.rsplit_once('.') else { continue };
            if is_valid_name(guest) {
                guests.push(guest.to_owned());
            }
        }
        guests.sort();
        guests.dedup();
        Ok(guests)
    }

    /// Deletes the files of a guest; none there is as good.
    pub fn forget(&self, guest: &str) -> io::Result<()> {
        // The record last: as long as it is there, an interrupted deletion is found again.
        for suffix in ["ctl", "outcome", "run", "exit", "new"] {
            match rustix::fs::unlinkat(&self.0, format!("{guest}.{suffix}"), AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn replace(&self, guest: &str, suffix: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let temporary = format!("{guest}.new");
        let file = rustix::fs::openat(&self.0, &temporary, flags, Mode::from_raw_mode(0o600))?;
        let written = rustix::io::write(&file, bytes)?;
        if written != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(rustix::fs::renameat(&self.0, &temporary, &self.0, format!("{guest}.{suffix}"))?)
    }

    fn read(&self, guest: &str, suffix: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.0, format!("{guest}.{suffix}"), flags, Mode::empty())?;
        let mut bytes = vec![0; MAX_FILE];
        let length = rustix::io::pread(file.as_fd(), &mut bytes, 0)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Field 22 of the text of `/proc/PID/stat`: the time the process started, in clock ticks since boot.
pub fn start_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name and may hold anything, also spaces and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_ticks_are_found_behind_any_program_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_ticks(stat), Some(4242));
        assert_eq!(start_ticks("12 (x"), None);
    }

    #[test]
    fn a_guest_is_seen_through_its_files() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        assert_eq!(directory.seen("a"), Seen::Nothing);
        drop(directory.create_outcome("a").unwrap());
        assert_eq!(directory.seen("a"), Seen::Nothing);
        let started = Started { pid: 12, start_ticks: 34, started_at: 56 };
        directory.write_started("a", &started).unwrap();
        assert_eq!(directory.seen("a"), Seen::Started(started, None));
        let usage = GuestUsage { memory_bytes: Some(65_536), table_elements: Some(0) };
        let running = Outcome { usage: Some(usage), ..Outcome::default() };
        std::fs::write(place.path().join("a.outcome"), running.encode_to_vec()).unwrap();
        assert_eq!(directory.read_usage("a"), Some(usage));
        assert_eq!(directory.seen("a"), Seen::Started(started, None), "what it uses is no end");
        let outcome = Outcome { exit_code: 3, reason: "Error".into(), finished_at: 9, ..Outcome::default() };
        std::fs::write(place.path().join("a.outcome"), outcome.encode_to_vec()).unwrap();
        assert_eq!(directory.seen("a"), Seen::Started(started, Some(outcome)));
        let record = ExitRecord { exit_code: 3, reason: "Error".into(), ..ExitRecord::default() };
        directory.write_exit("a", &record).unwrap();
        assert_eq!(directory.seen("a"), Seen::Ended(record));
        assert_eq!(directory.guests().unwrap(), ["a"]);
        directory.forget("a").unwrap();
        directory.forget("a").unwrap();
        assert!(directory.guests().unwrap().is_empty());
    }

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for name in ["", ".", "..", "a/b", ".hidden", "a\0b", &"x".repeat(129)] {
            assert!(!is_valid_name(name), "{name:?}");
        }
        assert!(is_valid_name("0f9a-exec_1.2"));
    }
}
