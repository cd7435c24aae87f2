//! What the kernel said of the processes that it killed for lack of memory.
//!
//! The counter of a cgroup tells that best, but only while the cgroup is there: systemd removes a scope as soon as it is empty, which
//! may be before its counter is read. The kernel's log (Documentation/ABI/testing/dev-kmsg) names each victim by its number.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

/// Victims that are remembered: more than the kernel kills between two ends of guests.
const REMEMBERED: usize = 256;

/// Records that are read at a time; the kernel keeps some thousands.
const RECORDS: usize = 1 << 16;

/// The longest record that the kernel hands out.
const RECORD: usize = 8192;

/// The log, from the supervisor's start on.
#[derive(Debug)]
pub(super) struct KernelLog {
    file: Option<OwnedFd>,
    victims: VecDeque<i32>,
}

impl KernelLog {
    /// Opens it; where that is forbidden there is none, and nothing is ever found in it.
    pub(super) fn open() -> Self {
        let open = || -> rustix::io::Result<OwnedFd> {
            let file = rustix::fs::open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
            rustix::fs::seek(&file, SeekFrom::End(0))?;
            Ok(file)
        };
        KernelLog { file: open().ok(), victims: VecDeque::new() }
    }

    /// Whether the kernel has killed this process for lack of memory. Asked once for each.
    pub(super) fn names(&mut self, pid: i32) -> bool {
        self.read();
        match self.victims.iter().position(|victim| *victim == pid) {
            // The number may be given to somebody else from now on.
            Some(place) => self.victims.remove(place).is_some(),
            None => false,
        }
    }

    fn read(&mut self) {
        let Some(file) = &self.file else { return };
        let mut record = [0; RECORD];
        for _ in 0..RECORDS {
            match rustix::io::read(file, &mut record) {
                Ok(0) => return,
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    if let Some(pid) = victim(&text) {
                        if self.victims.len() == REMEMBERED {
                            self.victims.pop_front();
                        }
                        self.victims.push_back(pid);
                    }
                }
                // Records were overwritten before they were read; the next ones are there.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// `mm/oom_kill.c`: `<why>: Killed process <pid> (<name>) …`. A process can write to the log too, but not as the kernel.
fn victim(record: &str) -> Option<i32> {
    let (head, message) = record.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    // The facility stands above the three bits of the level; 0 is the kernel's.
    if priority >> 3 != 0 {
        return None;
    }
    let (_, rest) = message.lines().next()?.split_once(": Killed process ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn victims_are_found_and_nothing_else_is_taken_for_one() {
        let killed = "3,1234,39661251385,-;Memory cgroup out of memory: Killed process 25213 (cri-wasm) total-vm:4329308kB\n";
        assert_eq!(victim(killed), Some(25213));
        assert_eq!(victim("6,1,1,-;Out of memory: Killed process 7 (a (b)) total-vm:1kB\n SUBSYSTEM=x\n"), Some(7));
        for other in [
            // Written by a process: facility 1.
            "11,1,1,-;Memory cgroup out of memory: Killed process 1 (init)\n",
            "3,1,1,-;cri-wasm invoked oom-killer: gfp_mask=0xcc0\n",
            "3,1,1,-;x: Killed process many (x)\n",
            "nonsense",
            "",
        ] {
            assert_eq!(victim(other), None, "{other}");
        }
    }

    #[test]
    fn a_log_that_cannot_be_read_names_nobody() {
        let mut log = KernelLog { file: None, victims: VecDeque::from([5]) };
        assert!(!log.names(6));
        assert!(log.names(5));
        assert!(!log.names(5), "told once");
    }
}
