//! Naming a process for good: its number alone may be reused.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use wasm_host::protocol::Started;

/// A guest's process. The number and the start time name it within one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// In the host's PID namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks from boot to its start.
    pub start_ticks: u64,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
}

impl From<Started> for Process {
    fn from(started: Started) -> Self {
        Self { pid: started.pid, start_ticks: started.start_ticks, started_at: started.started_at }
    }
}

impl Process {
    /// A descriptor of the process, if it is still this one. A zombie, which nobody has reaped yet, counts as gone.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let descriptor = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The descriptor came first: what /proc says now is about the process that it holds, or about nobody.
        Ok(self.stat().is_some_and(|(state, ticks, _)| ticks == self.start_ticks && state != 'Z').then_some(descriptor))
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.open().is_ok_and(|descriptor| descriptor.is_some())
    }

    /// Its parent, if it still runs.
    pub fn parent(&self) -> Option<i32> {
        self.stat().filter(|(_, ticks, _)| *ticks == self.start_ticks).map(|(_, _, parent)| parent)
    }

    /// Sends a signal; a process that is gone is no error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let Some(descriptor) = self.open()? else { return Ok(()) };
        let signal = Signal::from_named_raw(signal).ok_or(rustix::io::Errno::INVAL)?;
        match rustix::process::pidfd_send_signal(&descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// State, start ticks and parent.
    fn stat(&self) -> Option<(char, u64, i32)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let ticks = wasm_host::exit_record::start_ticks(&stat)?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        Some((fields.next()?.chars().next()?, ticks, fields.next()?.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_number_is_not_the_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let start_ticks = wasm_host::exit_record::start_ticks(&stat).unwrap();
        let own = Process { pid, start_ticks, started_at: 0 };
        assert!(own.is_alive());
        let other = Process { start_ticks: start_ticks.wrapping_add(1), ..own };
        assert!(!other.is_alive());
        other.signal(libc::SIGKILL).unwrap();
    }
}
