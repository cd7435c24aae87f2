//! What only metrics tell of a container: counters and settings of its group and of its processes that no summary needs.
//!
//! Metrics are asked for every half minute at most, so these files are opened and closed each time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::parse::{flat, flat_value, limit, number};
use crate::cgroup::{Cgroup, Version};

/// Counters and settings of one group. What is absent the node does not count; 0 for a limit is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Detail {
    /// Time in the guest's own code, nanoseconds.
    pub user_ns: Option<u64>,
    /// Time in the kernel, nanoseconds.
    pub system_ns: Option<u64>,
    /// Bandwidth control: what the quota did.
    pub throttling: Throttling,
    /// Microseconds of a period of the quota.
    pub cpu_period_us: Option<u64>,
    /// Microseconds that may be used in one; absent without a quota.
    pub cpu_quota_us: Option<u64>,
    /// As v1 counts them; absent on v2, where the kernel has a weight.
    pub cpu_shares: Option<u64>,
    /// The most that was charged so far, bytes.
    pub max_usage: Option<u64>,
    /// How often the limit of memory was hit.
    pub limit_hits: Option<u64>,
    /// Memory of the kernel that is charged to the group, bytes.
    pub kernel_memory: Option<u64>,
    /// Bytes; memory and swap together on v1, swap alone on v2.
    pub swap_limit: Option<u64>,
    /// Tasks.
    pub tasks_limit: Option<u64>,
    /// Processes that were killed for memory.
    pub oom_kills: Option<u64>,
    /// Input and output by device, v2 with the controller `io` only.
    pub devices: Vec<DeviceUsage>,
    /// What its processes hold.
    pub processes: Processes,
    /// What its guest says of itself.
    pub wasm: WasmUsage,
}

/// What is known of a container's guests as WebAssembly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WasmUsage {
    /// The container's own guest, and commands beside it.
    pub instances: u64,
    /// Bytes of linear memory of the container's own.
    pub memory_bytes: Option<u64>,
    /// Elements of its tables.
    pub table_elements: Option<u64>,
}

/// What the quota of processor time did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which something ran.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds that tasks waited for the next one.
    pub throttled_ns: u64,
}

/// Input and output of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceUsage {
    /// Major and minor number.
    pub number: (u32, u32),
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

impl DeviceUsage {
    /// Its path in `/dev`, or its number where sysfs does not name it.
    pub fn name(&self) -> String {
        let (major, minor) = self.number;
        let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok();
        let name = link.as_deref().and_then(Path::file_name).map(|name| format!("/dev/{}", name.to_string_lossy()));
        name.unwrap_or_else(|| format!("{major}:{minor}"))
    }
}

/// What the processes of a container hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processes {
    /// Their number: the guest, and commands beside it.
    pub count: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Those of them that are sockets.
    pub sockets: u64,
}

impl Detail {
    /// Reads a group; `guest` is looked at where the node has no groups that would know the others.
    pub fn read(cgroup: Option<&Cgroup>, version: Version, guest: Option<i32>) -> Self {
        let mut detail = match (cgroup, version) {
            (Some(cgroup), Version::V1) => v1(cgroup),
            (Some(cgroup), Version::V2) => v2(cgroup),
            _ => Self::default(),
        };
        let pids = cgroup.and_then(|cgroup| cgroup.processes().ok()).unwrap_or_else(|| guest.into_iter().collect());
        detail.oom_kills = cgroup.and_then(Cgroup::oom_kills);
        detail.processes = Processes::of(Path::new("/proc"), &pids);
        detail
    }
}

/// Reads files of one directory.
struct Reader(Option<PathBuf>);

impl Reader {
    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.0.as_ref()?.join(file)).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        number(&self.text(file)?)
    }

    /// 0: the file is there and says "no limit".
    fn limit(&self, file: &str) -> Option<u64> {
        Some(limit(&self.text(file)?).unwrap_or(0))
    }
}

fn v1(cgroup: &Cgroup) -> Detail {
    let [cpu, account, memory, pids] =
        ["cpu", "cpuacct", "memory", "pids"].map(|controller| Reader(cgroup.controller_directory(controller)));
    let stat = cpu.text("cpu.stat").unwrap_or_default();
    Detail {
        user_ns: account.number("cpuacct.usage_user"),
        system_ns: account.number("cpuacct.usage_sys"),
        throttling: Throttling {
            periods: flat_value(&stat, "nr_periods").unwrap_or(0),
            throttled_periods: flat_value(&stat, "nr_throttled").unwrap_or(0),
            throttled_ns: flat_value(&stat, "throttled_time").unwrap_or(0),
        },
        cpu_period_us: cpu.number("cpu.cfs_period_us"),
        // -1 is no quota, and no number here.
        cpu_quota_us: cpu.number("cpu.cfs_quota_us"),
        cpu_shares: cpu.number("cpu.shares"),
        max_usage: memory.number("memory.max_usage_in_bytes"),
        limit_hits: memory.number("memory.failcnt"),
        kernel_memory: memory.number("memory.kmem.usage_in_bytes"),
        swap_limit: memory.limit("memory.memsw.limit_in_bytes"),
        tasks_limit: pids.limit("pids.max"),
        ..Detail::default()
    }
}

fn v2(cgroup: &Cgroup) -> Detail {
    let group = Reader(cgroup.controller_directory("cpuacct"));
    let stat = group.text("cpu.stat").unwrap_or_default();
    let nanoseconds = |name| flat_value(&stat, name).map(|us| us.saturating_mul(1000));
    let (cpu_quota_us, cpu_period_us) = group.text("cpu.max").map(|text| cpu_max(&text)).unwrap_or_default();
    Detail {
        user_ns: nanoseconds("user_usec"),
        system_ns: nanoseconds("system_usec"),
        throttling: Throttling {
            periods: flat_value(&stat, "nr_periods").unwrap_or(0),
            throttled_periods: flat_value(&stat, "nr_throttled").unwrap_or(0),
            throttled_ns: nanoseconds("throttled_usec").unwrap_or(0),
        },
        cpu_period_us,
        cpu_quota_us,
        cpu_shares: None,
        max_usage: group.number("memory.peak"),
        limit_hits: group.text("memory.events").and_then(|text| flat_value(&text, "max")),
        kernel_memory: group.text("memory.stat").map(|text| kernel_memory(&text)),
        swap_limit: group.limit("memory.swap.max"),
        tasks_limit: group.limit("pids.max"),
        devices: group.text("io.stat").map(|text| text.lines().filter_map(device).collect()).unwrap_or_default(),
        ..Detail::default()
    }
}

/// `cpu.max`: quota, which may be `max`, and period.
fn cpu_max(text: &str) -> (Option<u64>, Option<u64>) {
    let mut words = text.split_whitespace();
    (words.next().and_then(number), words.next().and_then(number))
}

/// `kernel` counts it all since Linux 5.18; before, its parts do.
fn kernel_memory(stat: &str) -> u64 {
    const PARTS: [&str; 5] = ["kernel_stack", "pagetables", "percpu", "sock", "slab"];
    flat_value(stat, "kernel").unwrap_or_else(|| {
        flat(stat).filter(|(name, _)| PARTS.contains(name)).fold(0, |sum, (_, value)| u64::saturating_add(sum, value))
    })
}

/// A line of `io.stat`: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn device(line: &str) -> Option<DeviceUsage> {
    let (name, fields) = line.split_once(' ')?;
    let (major, minor) = name.split_once(':')?;
    let fields: BTreeMap<&str, u64> = fields
        .split_whitespace()
        .filter_map(|field| {
            let (name, value) = field.split_once('=')?;
            Some((name, number(value)?))
        })
        .collect();
    let field = |name| fields.get(name).copied().unwrap_or(0);
    Some(DeviceUsage {
        number: (major.parse().ok()?, minor.parse().ok()?),
        read_bytes: field("rbytes"),
        written_bytes: field("wbytes"),
        reads: field("rios"),
        writes: field("wios"),
    })
}

impl Processes {
    /// What is gone when it is looked at holds nothing.
    fn of(proc: &Path, pids: &[i32]) -> Self {
        let mut held = Self { count: u64::try_from(pids.len()).unwrap_or(u64::MAX), ..Self::default() };
        for pid in pids {
            let Ok(descriptors) = fs::read_dir(proc.join(pid.to_string()).join("fd")) else { continue };
            for descriptor in descriptors.flatten() {
                held.descriptors += 1;
                let target = fs::read_link(descriptor.path()).unwrap_or_default();
                held.sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::layout::Layout;
    use crate::cgroup::{CgroupPath, Cgroups};

    #[test]
    fn settings_and_counters_of_v2_are_those_of_one_directory() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
        let group = root.path().join("app");
        fs::create_dir(&group).unwrap();
        for (file, text) in [
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 9\nnr_throttled 4\nthrottled_usec 7\n"),
            ("cpu.max", "50000 100000\n"),
            ("memory.peak", "99\n"),
            ("memory.events", "low 0\nhigh 0\nmax 6\noom 1\noom_kill 1\n"),
            ("memory.stat", "kernel_stack 1\npagetables 2\nslab 4\nfile 100\n"),
            ("memory.swap.max", "max\n"),
            ("pids.max", "512\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n253:1\nodd\n"),
            ("cgroup.procs", ""),
        ] {
            fs::write(group.join(file), text).unwrap();
        }
        let cgroups = Cgroups::with_layout(Layout::from_proc(
            &format!("1 0 0:1 / {} rw - cgroup2 cgroup2 rw\n", root.path().display()),
            "",
        ));
        let group = cgroups.open(&CgroupPath::from_cri("/app").unwrap());
        let detail = Detail::read(Some(&group), Version::V2, None);
        assert_eq!((detail.user_ns, detail.system_ns), (Some(3000), Some(2000)));
        assert_eq!(detail.throttling, Throttling { periods: 9, throttled_periods: 4, throttled_ns: 7000 });
        assert_eq!((detail.cpu_quota_us, detail.cpu_period_us), (Some(50_000), Some(100_000)));
        assert_eq!((detail.max_usage, detail.limit_hits, detail.kernel_memory), (Some(99), Some(6), Some(7)));
        assert_eq!((detail.swap_limit, detail.tasks_limit, detail.oom_kills), (Some(0), Some(512), Some(1)));
        let device = DeviceUsage { number: (8, 0), read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 };
        assert_eq!(detail.devices, [device]);
        assert_eq!(detail.processes, Processes::default());
    }

    #[test]
    fn a_group_without_a_quota_has_a_period_and_no_quota() {
        assert_eq!(cpu_max("max 100000\n"), (None, Some(100_000)));
        assert_eq!(cpu_max(""), (None, None));
        assert_eq!(kernel_memory("kernel 10\nslab 4\n"), 10);
    }

    #[test]
    fn descriptors_and_sockets_of_a_process_are_counted_and_a_missing_one_holds_nothing() {
        let proc = tempfile::tempdir().unwrap();
        let fds = proc.path().join("7/fd");
        fs::create_dir_all(&fds).unwrap();
        for (number, target) in [(0, "/dev/null"), (3, "socket:[12]"), (4, "pipe:[3]"), (5, "socket:[13]")] {
            std::os::unix::fs::symlink(target, fds.join(number.to_string())).unwrap();
        }
        let held = Processes::of(proc.path(), &[7, 8]);
        assert_eq!(held, Processes { count: 2, descriptors: 4, sockets: 2 });
        assert_eq!(Detail::read(None, Version::None, None), Detail::default());
    }

    #[test]
    fn a_device_that_sysfs_does_not_name_is_its_number() {
        assert_eq!(DeviceUsage { number: (4_000, 77), ..DeviceUsage::default() }.name(), "4000:77");
    }
}
