//! Processes as `/proc` shows them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal};

/// One process of a node under test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// Its arguments; those of a guest's process are its supervisor's.
    pub arguments: Vec<String>,
    /// Its cgroups, `controllers:path` a line.
    pub cgroups: String,
}

impl Process {
    /// The process, unless it has ended or is a zombie.
    pub fn look(pid: i32) -> Option<Process> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(directory.join("stat")).ok()?;
        // `pid (name) state parent …`; the name may hold anything.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
        if state == "Z" || state == "X" {
            return None;
        }
        let arguments = std::fs::read(directory.join("cmdline")).ok()?;
        let arguments = arguments.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let cgroups = std::fs::read_to_string(directory.join("cgroup")).ok()?;
        Some(Process { pid, parent, arguments, cgroups })
    }

    /// Whether a path of the place is among its arguments, or its cgroup is below the place's.
    pub fn belongs_to(&self, place: &str) -> bool {
        self.arguments.iter().any(|word| has_component(word, place))
            || self.cgroups.lines().any(|line| has_component(line, place))
    }

    /// The role of the program that it runs: `serve`, `host`, `compile`.
    pub fn role(&self) -> &str {
        self.arguments.get(1).map_or("", String::as_str)
    }

    /// Sends a signal. Through a descriptor of the process, so that a number used again is never hit.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        if let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            && Process::look(self.pid).is_some_and(|now| now.arguments == self.arguments)
        {
            let _ = rustix::process::pidfd_send_signal(&handle, signal);
        }
    }
}

fn has_component(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        // `…-12` must not be found in `…-123`.
        !text[at + name.len()..].starts_with(|next: char| next.is_ascii_digit())
    })
}

/// Every process that belongs to a place.
pub fn of_place(place: &str) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    pids.filter(|pid| *pid != own).filter_map(Process::look).filter(|process| process.belongs_to(place)).collect()
}

/// `Name: value` lines of `/proc/PID/status`.
pub fn status(pid: i32) -> HashMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Which namespace of a kind (`mnt`, `net`, …) a process is in.
pub fn namespace(pid: i32, kind: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a running process")
}

/// What the descriptors of a process lead to.
pub fn descriptors(pid: i32) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
}

/// Inodes of the TCP sockets in the network namespace of a process.
pub fn tcp_sockets(pid: i32) -> Vec<String> {
    let mut inodes = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)).map(str::to_owned));
    }
    inodes
}

/// Where something is mounted, of what the process sees.
pub fn mount_points(process: &str) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(Path::new("/proc").join(process).join("mountinfo")).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(|path| PathBuf::from(path.replace("\\040", " "))).collect()
}
