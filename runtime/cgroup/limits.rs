//! From CRI's `LinuxContainerResources` to control files.
//!
//! [`Limits::plan`] says which values go into which files, in which order, and touches nothing; `Cgroup::apply`
//! writes them. The one thing that needs a look at the disk, memory against memory plus swap on v1, is a step of its
//! own ([`Step::MemoryAndSwap`]), because each of the two bounds the other in every state between.

use std::collections::BTreeMap;

use super::CgroupError;
use super::layout::{Controller, Layout, Version};

/// What a pod or a container may use. Everything is optional; what is `None` is left as it stands.
///
/// The meaning of each field is that of CRI's `LinuxContainerResources`, except that CRI's zero ("not specified") is
/// `None` here. Where CRI lets a number be negative, a negative one takes the limit away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `memory_limit_in_bytes`.
    pub memory_bytes: Option<i64>,
    /// `memory_swap_limit_in_bytes`: memory and swap **together**, as v1 counts them. On v2 the difference is written.
    pub swap_bytes: Option<i64>,
    /// `cpu_shares`, 2 to 262144, 1024 being one processor's worth of request. On v2 it becomes a weight.
    pub cpu_shares: Option<u64>,
    /// `cpu_quota`: microseconds of processor time in each period.
    pub cpu_quota_us: Option<i64>,
    /// `cpu_period`: microseconds. The kernel's own is 100000.
    pub cpu_period_us: Option<u64>,
    /// `cpuset_cpus`, such as `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// `cpuset_mems`, such as `0`.
    pub cpuset_mems: Option<String>,
    /// How many tasks there may be. Not in CRI's message; the daemon sets its own bound.
    pub pids: Option<i64>,
    /// `hugepage_limits`: page size as the kernel names it (`2MB`, `1GB`), and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// `unified`: files of v2 and their values, written last.
    pub unified: BTreeMap<String, String>,
}

/// One thing to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A value into a file of the hierarchy that carries the controller.
    Write {
        controller: Controller,
        file: String,
        value: String,
        /// The limit in words of CRI, for the error of a node that lacks the controller.
        limit: &'static str,
        /// Whether a node that lacks the controller or the file may leave it out.
        optional: bool,
    },
    /// v1: `memory.limit_in_bytes` and `memory.memsw.limit_in_bytes`, each -1 for none.
    MemoryAndSwap { memory: Option<i64>, swap: Option<i64> },
    /// v1: period and quota, each of which may only be valid after the other.
    PeriodAndQuota { period: Option<u64>, quota: Option<i64> },
    /// v2: `cpu.max`, whose two values stand in one file.
    CpuMax { period: Option<u64>, quota: Option<i64> },
}

/// The kernel's bounds of `cpu.shares`; what is outside is brought in, as every runtime does.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

impl Limits {
    /// The steps for a version, in order.
    pub(super) fn plan(&self, version: Version) -> Result<Vec<Step>, CgroupError> {
        let mut steps = Vec::new();
        match version {
            Version::V1 => self.plan_v1(&mut steps)?,
            Version::V2 => self.plan_v2(&mut steps)?,
            // Refused by name where it matters, as on a v2 node without controllers.
            Version::None => self.plan_v2(&mut steps)?,
        }
        Ok(steps)
    }

    /// Whether each step has a controller to be written to.
    pub(super) fn check(&self, layout: &Layout) -> Result<(), CgroupError> {
        for step in self.plan(layout.version())? {
            let (controller, limit) = match step {
                Step::Write { optional: true, .. } => continue,
                Step::Write { controller, limit, .. } => (controller, limit),
                Step::MemoryAndSwap { .. } => (Controller::Memory, "memory_limit_in_bytes"),
                Step::PeriodAndQuota { .. } | Step::CpuMax { .. } => (Controller::Cpu, "cpu_quota"),
            };
            layout.require(controller, limit)?;
        }
        Ok(())
    }

    fn plan_v1(&self, steps: &mut Vec<Step>) -> Result<(), CgroupError> {
        self.plan_cpuset(steps)?;
        if self.memory_bytes.is_some() || self.swap_bytes.is_some() {
            let none_is_minus_one = |bytes: Option<i64>| bytes.map(|bytes| bytes.max(-1));
            steps.push(Step::MemoryAndSwap {
                memory: none_is_minus_one(self.memory_bytes),
                swap: none_is_minus_one(self.swap_bytes),
            });
        }
        if let Some(shares) = self.cpu_shares {
            steps.push(optional(Controller::Cpu, "cpu.shares", clamp_shares(shares).to_string(), "cpu_shares"));
        }
        if self.cpu_quota_us.is_some() || self.cpu_period_us.is_some() {
            let quota = self.cpu_quota_us.map(|quota| quota.max(-1));
            steps.push(Step::PeriodAndQuota { period: self.cpu_period_us, quota });
        }
        self.plan_pids(steps);
        for (size, bytes) in &self.hugepages {
            check_page_size(size)?;
            steps.push(hugepages(format!("hugetlb.{size}.limit_in_bytes"), *bytes));
            steps.push(reserved_hugepages(format!("hugetlb.{size}.rsvd.limit_in_bytes"), *bytes));
        }
        if let Some(file) = self.unified.keys().next() {
            return Err(CgroupError::InvalidLimit {
                field: "unified",
                value: file.clone(),
                reason: "this node's controllers stand on cgroup v1, which has no such files",
            });
        }
        Ok(())
    }

    fn plan_v2(&self, steps: &mut Vec<Step>) -> Result<(), CgroupError> {
        self.plan_cpuset(steps)?;
        if let Some(bytes) = self.memory_bytes {
            steps.push(required(Controller::Memory, "memory.max", or_max(bytes), "memory_limit_in_bytes"));
        }
        if let Some(both) = self.swap_bytes {
            let value = swap_alone(self.memory_bytes, both)?;
            steps.push(optional(Controller::Memory, "memory.swap.max", value, "memory_swap_limit_in_bytes"));
        }
        if let Some(shares) = self.cpu_shares {
            steps.push(optional(Controller::Cpu, "cpu.weight", weight(shares).to_string(), "cpu_shares"));
        }
        if self.cpu_quota_us.is_some() || self.cpu_period_us.is_some() {
            steps.push(Step::CpuMax { period: self.cpu_period_us, quota: self.cpu_quota_us });
        }
        self.plan_pids(steps);
        for (size, bytes) in &self.hugepages {
            check_page_size(size)?;
            steps.push(hugepages(format!("hugetlb.{size}.max"), *bytes));
            steps.push(reserved_hugepages(format!("hugetlb.{size}.rsvd.max"), *bytes));
        }
        for (file, value) in &self.unified {
            steps.push(required(unified_controller(file)?, file, value.clone(), "unified"));
        }
        Ok(())
    }

    fn plan_cpuset(&self, steps: &mut Vec<Step>) -> Result<(), CgroupError> {
        let fields = [("cpuset_cpus", "cpuset.cpus", &self.cpuset_cpus), ("cpuset_mems", "cpuset.mems", &self.cpuset_mems)];
        for (field, file, list) in fields {
            let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else { continue };
            if !list.bytes().all(|byte| byte.is_ascii_digit() || byte == b',' || byte == b'-') {
                let reason = "a list looks like `0-3,7`";
                return Err(CgroupError::InvalidLimit { field, value: list.to_owned(), reason });
            }
            steps.push(required(Controller::Cpuset, file, list.to_owned(), field));
        }
        Ok(())
    }

    fn plan_pids(&self, steps: &mut Vec<Step>) {
        if let Some(pids) = self.pids {
            steps.push(required(Controller::Pids, "pids.max", or_max(pids), "the limit of tasks"));
        }
    }
}

fn required(controller: Controller, file: &str, value: String, limit: &'static str) -> Step {
    Step::Write { controller, file: file.to_owned(), value, limit, optional: false }
}

/// For a preference among neighbours, and for what a kernel may be built without while nothing is lost by it.
fn optional(controller: Controller, file: &str, value: String, limit: &'static str) -> Step {
    Step::Write { controller, file: file.to_owned(), value, limit, optional: true }
}

/// The kubelet names every page size of the node with a limit of zero, also where there is no controller for them.
/// Leaving those out takes nothing from anybody: a guest has no way to ask for a huge page.
fn hugepages(file: String, bytes: u64) -> Step {
    let (value, limit) = (bytes.to_string(), "hugepage_limits");
    Step::Write { controller: Controller::Hugetlb, file, value, limit, optional: bytes == 0 }
}

/// Reservations are counted since Linux 5.7, so the file may be missing.
fn reserved_hugepages(file: String, bytes: u64) -> Step {
    optional(Controller::Hugetlb, &file, bytes.to_string(), "hugepage_limits")
}

fn or_max(number: i64) -> String {
    if number < 0 { "max".to_owned() } else { number.to_string() }
}

fn clamp_shares(shares: u64) -> u64 {
    shares.clamp(*SHARES.start(), *SHARES.end())
}

/// Swap alone, as v2 counts it, from memory and swap together.
fn swap_alone(memory: Option<i64>, both: i64) -> Result<String, CgroupError> {
    let invalid = |reason| CgroupError::InvalidLimit { field: "memory_swap_limit_in_bytes", value: both.to_string(), reason };
    if both < 0 {
        return Ok("max".to_owned());
    }
    match memory {
        Some(memory) if memory >= 0 && both >= memory => Ok((both - memory).to_string()),
        Some(memory) if memory >= 0 => Err(invalid("it counts memory and swap together, so at least the memory limit")),
        _ => Err(invalid("it counts memory and swap together, so it needs a memory limit")),
    }
}

/// Shares (2 to 262144, usually 1024) as a weight (1 to 10000, usually 100).
///
/// The quadratic curve through the two ends and the default of the logarithms, which current kubelets and runtimes
/// share; the older straight line gave 39 for 1024 and so took more than half of a container's weight against
/// processes beside it.
pub(super) fn weight(shares: u64) -> u64 {
    match clamp_shares(shares) {
        shares if shares == *SHARES.start() => 1,
        shares if shares == *SHARES.end() => 10_000,
        shares => {
            let log = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // A weight that is whole must not be rounded up because of the last bit of its logarithm.
            let weight = (10f64.powf(exponent) - 1e-9).ceil().clamp(1.0, 10_000.0);
            // The range was just set, so the conversion cuts nothing off.
            weight as u64
        }
    }
}

fn check_page_size(size: &str) -> Result<(), CgroupError> {
    if !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(());
    }
    let reason = "a page size looks like `2MB`";
    Err(CgroupError::InvalidLimit { field: "hugepage_limits", value: size.to_owned(), reason })
}

/// The controller of a file of `unified`. Files of the group itself (`cgroup.procs`, `cgroup.freeze` …) are not a
/// pod's business, and neither is anything that is not in the directory.
fn unified_controller(file: &str) -> Result<Controller, CgroupError> {
    let controller = match file.split_once('.') {
        Some(("cpu", _)) => Some(Controller::Cpu),
        Some(("memory", _)) => Some(Controller::Memory),
        Some(("pids", _)) => Some(Controller::Pids),
        Some(("cpuset", _)) => Some(Controller::Cpuset),
        Some(("hugetlb", _)) => Some(Controller::Hugetlb),
        _ => None,
    };
    let plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_');
    controller.filter(|_| plain).ok_or_else(|| CgroupError::InvalidLimit {
        field: "unified",
        value: file.to_owned(),
        reason: "files of cpu, memory, pids, cpuset and hugetlb can be set",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits, version: Version) -> Vec<(String, String)> {
        let value = |step| match step {
            Step::Write { file, value, .. } => (file, value),
            other => (format!("{other:?}"), String::new()),
        };
        limits.plan(version).unwrap().into_iter().map(value).collect()
    }

    fn pair(file: &str, value: &str) -> (String, String) {
        (file.to_owned(), value.to_owned())
    }

    #[test]
    fn no_limits_write_nothing() {
        for version in [Version::V1, Version::V2, Version::None] {
            assert_eq!(Limits::default().plan(version).unwrap(), []);
        }
    }

    #[test]
    fn limits_become_files_of_v2() {
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            swap_bytes: Some(96 << 20),
            cpu_shares: Some(1024),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_mems: Some(String::new()),
            pids: Some(-1),
            hugepages: vec![("2MB".to_owned(), 0)],
            unified: BTreeMap::from([("memory.oom.group".to_owned(), "1".to_owned())]),
        };
        let cpu_max = Step::CpuMax { period: Some(100_000), quota: Some(50_000) };
        assert_eq!(
            written(&limits, Version::V2),
            [
                pair("cpuset.cpus", "0-1"),
                pair("memory.max", "67108864"),
                pair("memory.swap.max", "33554432"),
                pair("cpu.weight", "100"),
                (format!("{cpu_max:?}"), String::new()),
                pair("pids.max", "max"),
                pair("hugetlb.2MB.max", "0"),
                pair("hugetlb.2MB.rsvd.max", "0"),
                pair("memory.oom.group", "1"),
            ]
        );
    }

    #[test]
    fn shares_become_weights_through_both_ends_and_the_default() {
        let weights = [(0, 1), (2, 1), (102, 17), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000), (u64::MAX, 10_000)];
        for (shares, expected) in weights {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn swap_below_memory_or_without_it_is_refused_on_v2() {
        for memory_bytes in [None, Some(-1), Some(2 << 20)] {
            let limits = Limits { memory_bytes, swap_bytes: Some(1 << 20), ..Limits::default() };
            assert!(limits.plan(Version::V2).is_err(), "{memory_bytes:?}");
        }
        let unlimited = Limits { swap_bytes: Some(-1), ..Limits::default() };
        assert_eq!(written(&unlimited, Version::V2), [pair("memory.swap.max", "max")]);
    }

    #[test]
    fn a_value_that_could_name_another_file_is_refused() {
        for file in ["cgroup.procs", "cgroup.kill", "memory/../cgroup.procs", "memory", "io.max", ""] {
            let unified = BTreeMap::from([(file.to_owned(), "1".to_owned())]);
            let limits = Limits { unified, ..Limits::default() };
            assert!(matches!(limits.plan(Version::V2), Err(CgroupError::InvalidLimit { .. })), "{file}");
        }
        let limits = Limits { hugepages: vec![("../2MB".to_owned(), 1)], ..Limits::default() };
        assert!(limits.plan(Version::V1).is_err());
        let limits = Limits { cpuset_cpus: Some("0\n1".to_owned()), ..Limits::default() };
        assert!(limits.plan(Version::V1).is_err());
    }

    #[test]
    fn files_of_v2_are_refused_on_v1() {
        let unified = BTreeMap::from([("memory.high".to_owned(), "1".to_owned())]);
        let error = Limits { unified, ..Limits::default() }.plan(Version::V1).unwrap_err();
        assert!(error.to_string().contains("memory.high"), "{error}");
    }
}
