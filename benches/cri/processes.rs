//! Processes as `/proc` shows them: whose they are, what memory and processor time they take.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Length of a tick of `/proc/PID/stat`. USER_HZ is 100 on every Linux.
const TICK_MILLIS: u64 = 10;

/// One process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its arguments; those of a guest's process are its supervisor's.
    pub arguments: Vec<String>,
    /// Its cgroups, `controllers:path` a line.
    pub cgroups: String,
}

impl Process {
    fn look(pid: i32) -> Option<Self> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let arguments = std::fs::read(directory.join("cmdline")).ok()?;
        // A zombie, or a thread of the kernel.
        if arguments.is_empty() {
            return None;
        }
        let arguments = arguments.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let cgroups = std::fs::read_to_string(directory.join("cgroup")).ok()?;
        Some(Self { pid, arguments, cgroups })
    }

    /// Whether one of its cgroups is below a path.
    pub fn is_in_cgroup(&self, path: &str) -> bool {
        let paths = self.cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        paths.into_iter().any(|found| Path::new(found).starts_with(path))
    }

    fn belongs_to(&self, place: &str) -> bool {
        let has_component = |text: &str| text.split(['/', ' ', '=', ':']).any(|part| part == place);
        self.arguments.iter().any(|word| has_component(word)) || self.cgroups.lines().any(has_component)
    }

    /// Proportional set size in bytes: private memory, and of shared memory the process's part.
    pub fn pss(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        kilobytes(&text, "Pss:").with_context(|| format!("no Pss in {path}"))
    }

    /// Resident memory in bytes, shared or not.
    pub fn rss(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory since [`Process::forget_peak`], in bytes.
    pub fn peak_rss(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    /// Begins a new peak.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        let path = format!("/proc/{}/clear_refs", self.pid);
        // 5: proc_pid_clear_refs(5).
        std::fs::write(&path, "5").with_context(|| path)
    }

    fn status(&self, name: &str) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.pid);
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        kilobytes(&text, name).with_context(|| format!("no {name} in {path}"))
    }

    /// Processor time that all its threads have used, those that have ended included, in milliseconds.
    pub fn cpu_millis(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/stat", self.pid);
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        // `pid (name) state …`; the name may hold anything. utime and stime are the 14th and 15th field.
        let (_, fields) = text.rsplit_once(") ").with_context(|| format!("{path} has no name"))?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(ticks * TICK_MILLIS)
    }
}

/// A line `NAME   123 kB` in bytes.
pub fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|number| number * 1024)
}

/// Every process that belongs to a place, but this one.
pub fn of_place(place: &str) -> Vec<Process> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own).filter_map(Process::look).filter(|process| process.belongs_to(place)).collect()
}
