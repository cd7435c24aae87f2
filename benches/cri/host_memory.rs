//! Memory as the whole machine sees it, which no process's figures do: the kernel's own for namespaces, cgroups and mounts is in it.

use std::path::Path;

use anyhow::Context;

use crate::processes::kilobytes;
use crate::stats::megabytes;

/// `/proc/meminfo` at a moment.
#[derive(Debug, Clone, Copy)]
pub struct HostMemory {
    available: u64,
    committed: u64,
}

impl HostMemory {
    /// The median of some looks, as others on the machine come and go.
    pub fn look() -> anyhow::Result<Self> {
        let mut looks = Vec::new();
        for _ in 0..9 {
            let text = std::fs::read_to_string("/proc/meminfo")?;
            let read = |name: &str| kilobytes(&text, name).with_context(|| format!("no {name} in /proc/meminfo"));
            looks.push(Self { available: read("MemAvailable:")?, committed: read("Committed_AS:")? });
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let middle = |of: fn(&Self) -> u64| {
            let mut values: Vec<u64> = looks.iter().map(of).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Ok(Self { available: middle(|look| look.available), committed: middle(|look| look.committed) })
    }

    /// Megabytes that are no longer available since. Below zero where others gave back more than was taken.
    pub fn taken_since(&self, before: &Self) -> f64 {
        megabytes(before.available) - megabytes(self.available)
    }

    /// Megabytes that are promised to processes since.
    pub fn committed_since(&self, before: &Self) -> f64 {
        megabytes(self.committed) - megabytes(before.committed)
    }
}

/// Bytes that the kernel charges to a cgroup and all below it, its own structures among them.
pub fn charged(cgroup: &str) -> Option<u64> {
    let relative = cgroup.trim_start_matches('/');
    let v1 = Path::new("/sys/fs/cgroup/memory").join(relative).join("memory.usage_in_bytes");
    let v2 = Path::new("/sys/fs/cgroup").join(relative).join("memory.current");
    [v1, v2].iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
}
