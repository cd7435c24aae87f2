//! What the kernel counts about one control group, v1 and v2, from descriptors that stay open.

use std::sync::Arc;
use std::time::Instant;

use super::kept::{Budget, Kept};
use super::parse::{self, Pressure, UNLIMITED_V1, flat, limit, number};
use super::rate::Rate;
use crate::cgroup::{Cgroup, Version};

/// What a group uses. Parts that the node does not count are absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupUsage {
    /// Processors.
    pub cpu: Option<CpuUsage>,
    /// Memory.
    pub memory: Option<MemoryUsage>,
    /// Swap; absent where the kernel does not count it.
    pub swap: Option<SwapUsage>,
    /// Tasks: processes and their threads.
    pub tasks: Option<u64>,
    /// Stalls on input and output.
    pub io_pressure: Option<Pressure>,
}

/// What a group uses of the processors.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuUsage {
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// Nanoseconds of one processor, since the group was made.
    pub usage_ns: u64,
    /// Billionths of a processor at present; absent at the first sample.
    pub nano_cores: Option<u64>,
    /// Stalls.
    pub pressure: Option<Pressure>,
}

/// What a group uses of the memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MemoryUsage {
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// All that is charged to it, page cache too.
    pub usage: u64,
    /// Without the page cache that the kernel would drop first.
    pub working_set: u64,
    /// Its own limit.
    pub limit: Option<u64>,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// Files that are mapped.
    pub mapped_file: u64,
    /// Page faults, the major ones too.
    pub page_faults: u64,
    /// Page faults that had to read from a disk.
    pub major_page_faults: u64,
    /// Stalls.
    pub pressure: Option<Pressure>,
}

impl MemoryUsage {
    /// What is left of the limit; absent without one.
    pub fn available(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.working_set))
    }
}

/// What a group uses of the swap, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwapUsage {
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// In use.
    pub usage: u64,
    /// What is left of the limit; absent without one.
    pub available: Option<u64>,
}

/// Reads one group. Dropping it closes its descriptors.
#[derive(Debug)]
pub struct Meter {
    files: Files,
    rate: Rate,
}

#[derive(Debug)]
enum Files {
    V1(Box<V1>),
    V2(Box<V2>),
    None,
}

/// <https://docs.kernel.org/admin-guide/cgroup-v1/>; a controller that is not mounted has no files.
#[derive(Debug)]
struct V1 {
    usage: Option<Kept>,
    memory: Option<Kept>,
    memory_limit: Option<Kept>,
    memory_stat: Option<Kept>,
    tasks: Option<Kept>,
}

/// <https://docs.kernel.org/admin-guide/cgroup-v2.html>
#[derive(Debug)]
struct V2 {
    cpu_stat: Kept,
    memory: Kept,
    memory_max: Kept,
    memory_stat: Kept,
    swap: Kept,
    swap_max: Kept,
    tasks: Kept,
    cpu_pressure: Kept,
    memory_pressure: Kept,
    io_pressure: Kept,
}

impl Meter {
    /// For a group that stands, or will.
    pub fn new(cgroup: &Cgroup, version: Version, budget: &Arc<Budget>) -> Self {
        let file = |controller, name: &str| {
            let directory = cgroup.controller_directory(controller)?;
            Some(Kept::new(directory.join(name), budget))
        };
        let files = match version {
            Version::V1 => Files::V1(Box::new(V1 {
                usage: file("cpuacct", "cpuacct.usage"),
                memory: file("memory", "memory.usage_in_bytes"),
                memory_limit: file("memory", "memory.limit_in_bytes"),
                memory_stat: file("memory", "memory.stat"),
                tasks: file("pids", "pids.current"),
            })),
            // Time is counted, and stalls are, in every group of v2.
            Version::V2 => cgroup.controller_directory("cpuacct").map_or(Files::None, |directory| {
                let file = |name| Kept::new(directory.join(name), budget);
                Files::V2(Box::new(V2 {
                    cpu_stat: file("cpu.stat"),
                    memory: file("memory.current"),
                    memory_max: file("memory.max"),
                    memory_stat: file("memory.stat"),
                    swap: file("memory.swap.current"),
                    swap_max: file("memory.swap.max"),
                    tasks: file("pids.current"),
                    cpu_pressure: file("cpu.pressure"),
                    memory_pressure: file("memory.pressure"),
                    io_pressure: file("io.pressure"),
                }))
            }),
            Version::None => Files::None,
        };
        Self { files, rate: Rate::default() }
    }

    /// Reads everything. A group that is gone uses nothing: every part is absent.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> GroupUsage {
        let timestamp = wasm_host::protocol::now();
        let at = Instant::now();
        let mut usage = match &mut self.files {
            Files::V1(files) => files.read(timestamp, buffer),
            Files::V2(files) => files.read(timestamp, buffer),
            Files::None => GroupUsage::default(),
        };
        if let Some(cpu) = &mut usage.cpu {
            cpu.nano_cores = self.rate.observe(at, cpu.usage_ns);
        }
        usage
    }
}

fn read_number(file: &mut Option<Kept>, buffer: &mut Vec<u8>) -> Option<u64> {
    number(file.as_mut()?.read(buffer)?)
}

impl V1 {
    fn read(&mut self, timestamp: i64, buffer: &mut Vec<u8>) -> GroupUsage {
        let usage_ns = read_number(&mut self.usage, buffer);
        let stat = self.memory_stat.as_mut().and_then(|file| Some(StatV1::of(file.read(buffer)?)));
        let usage = read_number(&mut self.memory, buffer);
        let memory = usage.zip(stat.as_ref()).map(|(usage, stat)| MemoryUsage {
            timestamp,
            usage,
            working_set: usage.saturating_sub(stat.inactive_file),
            limit: self.memory_limit.as_mut().and_then(|file| limit(file.read(buffer)?)),
            ..stat.memory
        });
        let swap = stat.and_then(|stat| {
            let usage = stat.swap?;
            let limited = stat.memsw_limit.filter(|limit| *limit < UNLIMITED_V1);
            // One limit counts memory and swap together.
            let available = limited.map(|both| both.saturating_sub(stat.memory_limit).saturating_sub(usage));
            Some(SwapUsage { timestamp, usage, available })
        });
        GroupUsage {
            cpu: usage_ns.map(|usage_ns| CpuUsage { timestamp, usage_ns, ..CpuUsage::default() }),
            memory,
            swap,
            tasks: read_number(&mut self.tasks, buffer),
            // There is no pressure on v1.
            io_pressure: None,
        }
    }
}

/// `memory.stat` of v1. The lines `total_…` count the groups below, as v2 always does.
#[derive(Default)]
struct StatV1 {
    memory: MemoryUsage,
    inactive_file: u64,
    memory_limit: u64,
    /// Where swap is not counted there is no line.
    memsw_limit: Option<u64>,
    swap: Option<u64>,
}

impl StatV1 {
    fn of(text: &str) -> Self {
        let mut stat = Self::default();
        for (name, value) in flat(text) {
            match name {
                "total_rss" => stat.memory.rss = value,
                "total_cache" => stat.memory.cache = value,
                "total_mapped_file" => stat.memory.mapped_file = value,
                "total_pgfault" => stat.memory.page_faults = value,
                "total_pgmajfault" => stat.memory.major_page_faults = value,
                "total_inactive_file" => stat.inactive_file = value,
                "total_swap" => stat.swap = Some(value),
                "hierarchical_memory_limit" => stat.memory_limit = value,
                "hierarchical_memsw_limit" => stat.memsw_limit = Some(value),
                _ => {}
            }
        }
        stat
    }
}

impl V2 {
    fn read(&mut self, timestamp: i64, buffer: &mut Vec<u8>) -> GroupUsage {
        let usage_us = self.cpu_stat.read(buffer).and_then(|text| parse::flat_value(text, "usage_usec"));
        let cpu = usage_us.map(|usage_us| CpuUsage {
            timestamp,
            usage_ns: usage_us.saturating_mul(1000),
            nano_cores: None,
            pressure: self.cpu_pressure.read(buffer).and_then(parse::pressure),
        });
        let usage = self.memory.read(buffer).and_then(number);
        let memory = usage.and_then(|usage| {
            let (stat, inactive_file) = stat_v2(self.memory_stat.read(buffer)?);
            Some(MemoryUsage {
                timestamp,
                usage,
                working_set: usage.saturating_sub(inactive_file),
                limit: self.memory_max.read(buffer).and_then(limit),
                pressure: self.memory_pressure.read(buffer).and_then(parse::pressure),
                ..stat
            })
        });
        let swap = self.swap.read(buffer).and_then(number).map(|usage| {
            let limit = self.swap_max.read(buffer).and_then(limit);
            SwapUsage { timestamp, usage, available: limit.map(|limit| limit.saturating_sub(usage)) }
        });
        GroupUsage {
            cpu,
            memory,
            swap,
            tasks: self.tasks.read(buffer).and_then(number),
            io_pressure: self.io_pressure.read(buffer).and_then(parse::pressure),
        }
    }
}

/// What counts of `memory.stat` of v2, and its inactive page cache.
fn stat_v2(text: &str) -> (MemoryUsage, u64) {
    let (mut memory, mut inactive_file) = (MemoryUsage::default(), 0);
    for (name, value) in flat(text) {
        match name {
            "anon" => memory.rss = value,
            "file" => memory.cache = value,
            "file_mapped" => memory.mapped_file = value,
            "pgfault" => memory.page_faults = value,
            "pgmajfault" => memory.major_page_faults = value,
            "inactive_file" => inactive_file = value,
            _ => {}
        }
    }
    (memory, inactive_file)
}
