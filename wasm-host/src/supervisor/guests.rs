//! The guests that live, and how each ended.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::kernel_log::KernelLog;
use super::{Source, Supervisor};
use crate::protocol::{self, ExitRecord, Exited, Failure, Outcome, Reply, Started, reply};

/// The CRI's reason for a guest that has outgrown its memory.
const OOM_KILLED: &str = "OOMKilled";

/// A guest process.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) name: String,
    /// pidfd: readable when the process has ended.
    pub(super) process: OwnedFd,
    pub(super) started: Started,
    /// Where the process reports that it is ready or why not; gone once it has.
    pub(super) report: Option<OwnedFd>,
    /// Connection and request that wait for the report.
    pub(super) reply_to: Option<(u64, u64)>,
    pub(super) oom_events: Option<OomEvents>,
}

/// The counter of a cgroup's processes that the kernel killed for memory. A container and the commands in it share a cgroup, so
/// each kill must be told of the one that it hit.
#[derive(Debug)]
pub(super) struct OomEvents {
    file: OwnedFd,
    /// Names the file, and so the cgroup.
    id: (u64, u64),
    /// Kills that were others': counted before this guest, or told of another one since.
    others: u64,
}

impl OomEvents {
    pub(super) fn new(file: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&file)?;
        let others = kills(&file).unwrap_or(0);
        Ok(Self { file, id: (stat.st_dev, stat.st_ino), others })
    }
}

impl Guest {
    pub(super) fn kill(&self) {
        // Gone already is what was wanted.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
        let _ = rustix::process::waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&self.process)), WaitIdOptions::EXITED);
    }

    /// Of a guest that SIGKILL has ended.
    fn was_killed_for_memory(&self, kernel_log: &mut KernelLog) -> bool {
        let Some(events) = &self.oom_events else { return false };
        match kills(&events.file) {
            Some(kills) => kills > events.others,
            // The cgroup has gone with its last process.
            None => kernel_log.names(self.started.pid),
        }
    }
}

/// The `oom_kill` counter of `memory.events` (v2) or `memory.oom_control` (v1); `None`: it cannot be read any more.
fn kills(events: &OwnedFd) -> Option<u64> {
    let mut text = [0; 512];
    let length = rustix::io::pread(events, &mut text, 0).ok()?;
    let text = text.get(..length).unwrap_or_default();
    Some(String::from_utf8_lossy(text).lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0))
}

impl Supervisor {
    /// The guest is ready, or could not become so; silence means that it has died, which [`Self::guest_ended`] tells.
    pub(super) fn guest_reported(&mut self, key: u64) {
        self.unwatch(|source| !matches!(source, Source::Ready(guest) if guest == key));
        let Some(guest) = self.guests.get_mut(&key) else { return };
        let Some(report) = guest.report.take() else { return };
        let received = match protocol::receive::<Reply>(&report) {
            // It has ended without having read that it may go, which the kernel tells before its last words.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => protocol::receive::<Reply>(&report),
            received => received,
        };
        let answer = match received {
            Ok(Some((Reply { body: Some(reply::Body::Started(_)), .. }, _))) => reply::Body::Started(guest.started),
            Ok(Some((Reply { body: Some(reply::Body::Failure(failure)), .. }, _))) => reply::Body::Failure(failure),
            _ => return,
        };
        if let Some((connection, request)) = guest.reply_to.take() {
            if matches!(answer, reply::Body::Failure(_)) {
                // Its files go with it, before anybody retries under the same name.
                self.end_unstarted(key);
            }
            self.reply(connection, request, answer);
        }
    }

    pub(super) fn guest_ended(&mut self, key: u64) {
        if self.guests.get(&key).is_some_and(|guest| guest.report.is_some()) {
            // Both may have become readable at once; the report comes first.
            self.guest_reported(key);
        }
        let Some(guest) = self.guests.get(&key) else { return };
        let descriptor = std::os::fd::AsFd::as_fd(&guest.process);
        let status = match rustix::process::waitid(WaitId::PidFd(descriptor), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(status)) => (status.exit_status(), status.terminating_signal()),
            Ok(None) | Err(rustix::io::Errno::INTR) => return,
            Err(_) => (None, None),
        };
        let Some(guest) = self.guests.remove(&key) else { return };
        self.unwatch(|source| !matches!(source, Source::End(guest) | Source::Ready(guest) if guest == key));
        let outcome = self.directory.read_outcome(&guest.name);
        let for_memory = status.1 == Some(libc::SIGKILL) && guest.was_killed_for_memory(&mut self.kernel_log);
        let record = join(&guest, status, outcome, for_memory);
        if let Some(killed) = guest.oom_events.as_ref().filter(|_| for_memory) {
            let same =
                self.guests.values_mut().filter_map(|other| other.oom_events.as_mut()).filter(|other| other.id == killed.id);
            same.for_each(|other| other.others += 1);
        }
        if let Some((connection, request)) = guest.reply_to {
            let failure = match record.message {
                _ if record.reason == OOM_KILLED => Failure {
                    message: "it was killed for lack of memory before it could run: its memory limit is too low".to_owned(),
                    errno: libc::ENOMEM,
                },
                message if message.is_empty() => {
                    Failure { message: format!("it ended with status {}", record.exit_code), errno: 0 }
                }
                message => Failure { message, errno: 0 },
            };
            let _ = self.directory.forget(&guest.name);
            self.reply(connection, request, reply::Body::Failure(failure));
            return;
        }
        if let Err(error) = self.directory.write_exit(&guest.name, &record) {
            // The daemon still hears of it below, and after a restart from the outcome file.
            eprintln!("cri-wasm host: cannot record the end of {}: {error}", guest.name);
        }
        self.broadcast(&reply::Body::Exited(Exited { guest: guest.name, record: Some(record) }));
    }

    fn end_unstarted(&mut self, key: u64) {
        self.unwatch(|source| !matches!(source, Source::End(guest) if guest == key));
        if let Some(guest) = self.guests.remove(&key) {
            guest.kill();
            let _ = self.directory.forget(&guest.name);
        }
    }
}

/// Joins what the kernel says with what the process said itself. The kernel has the last word: a signal after the outcome was written is
/// still how the process ended.
fn join(guest: &Guest, status: (Option<i32>, Option<i32>), outcome: Option<Outcome>, for_memory: bool) -> ExitRecord {
    let (exit_code, reason, message) = match (status, outcome) {
        ((Some(_), _), Some(outcome)) => (outcome.exit_code, outcome.reason, outcome.message),
        ((Some(0), _), None) => (0, "Completed".to_owned(), String::new()),
        ((Some(code), _), None) => (code, "Error".to_owned(), String::new()),
        ((None, Some(signal)), _) => {
            let (reason, message) = match signal {
                _ if for_memory => (OOM_KILLED, String::new()),
                libc::SIGKILL | libc::SIGTERM | libc::SIGINT => ("Error", String::new()),
                other => ("Error", format!("the guest's process was ended by signal {other}")),
            };
            (128 + signal, reason.to_owned(), message)
        }
        ((None, None), Some(outcome)) => (outcome.exit_code, outcome.reason, outcome.message),
        ((None, None), None) => (255, "Unknown".to_owned(), "how the guest's process ended could not be learned".to_owned()),
    };
    ExitRecord {
        pid: guest.started.pid,
        start_ticks: guest.started.start_ticks,
        started_at: guest.started.started_at,
        finished_at: protocol::now(),
        exit_code,
        reason,
        message,
    }
}
