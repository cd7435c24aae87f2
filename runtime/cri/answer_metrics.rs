//! From measurements to metrics.

use super::metric::{self, Lines, Subject};
use crate::container::Container;
use crate::proto::runtime::v1 as cri;
use crate::sandbox::Sandbox;
use crate::stats::detail::Detail;
use crate::stats::filesystem::Filesystem;
use crate::stats::parse::{Interface, Pressure};
use crate::stats::{ContainerUsage, DetailedPod};

const NANOSECONDS: u64 = 1_000_000_000;
const MICROSECONDS: u64 = 1_000_000;

/// Processor shares of a container that asks for none.
const DEFAULT_SHARES: u64 = 1024;

/// All metrics of one pod.
pub fn pod((sandbox, usage, details): &DetailedPod, filesystem: &Filesystem) -> cri::PodSandboxMetrics {
    let mut lines = Lines::of(of_pod(sandbox));
    for interface in usage.interfaces.iter().flatten() {
        network(&mut lines, interface);
    }
    let containers = usage.containers.iter().zip(details);
    cri::PodSandboxMetrics {
        pod_sandbox_id: sandbox.id().to_string(),
        metrics: lines.finish(),
        container_metrics: containers
            .map(|((container, of_container), detail)| cri::ContainerMetrics {
                container_id: container.id().to_string(),
                metrics: self::container((sandbox, container), usage.timestamp, of_container, detail, filesystem),
            })
            .collect(),
    }
}

fn of_pod(sandbox: &Sandbox) -> Subject {
    let metadata = sandbox.metadata();
    let name = &metadata.config.name;
    Subject {
        id: metadata.cgroup_parent.clone(),
        name: metadata.id.to_string(),
        namespace: name.namespace.clone(),
        pod: name.name.clone(),
        ..Subject::default()
    }
}

fn container(
    (sandbox, container): (&Sandbox, &Container),
    timestamp: i64,
    usage: &ContainerUsage,
    detail: &Detail,
    filesystem: &Filesystem,
) -> Vec<cri::Metric> {
    let metadata = container.metadata();
    let subject = Subject {
        container: metadata.config.name.clone(),
        id: if metadata.cgroup.is_empty() { metadata.id.to_string() } else { metadata.cgroup.clone() },
        image: metadata.image_name.clone(),
        name: metadata.id.to_string(),
        ..of_pod(sandbox)
    };
    let mut lines = Lines::of(subject);
    cpu(&mut lines, container, usage, detail);
    memory(&mut lines, usage, detail);
    pressure(&mut lines, usage);
    lines.add(metric::PROCESSES, [], detail.processes.count);
    lines.add(metric::THREADS, [], usage.group.tasks);
    lines.add(metric::THREADS_MAX, [], detail.tasks_limit);
    lines.add(metric::FILE_DESCRIPTORS, [], detail.processes.descriptors);
    lines.add(metric::SOCKETS, [], detail.processes.sockets);
    lines.add(metric::START_TIME, [], seconds_since_epoch(container.status().started_at()));
    lines.add(metric::LAST_SEEN, [], seconds_since_epoch(timestamp));
    disk(&mut lines, usage, detail, filesystem);
    lines.add(metric::WASM_INSTANCES, [], detail.wasm.instances);
    lines.add(metric::WASM_MEMORY, [], detail.wasm.memory_bytes);
    lines.add(metric::WASM_TABLE, [], detail.wasm.table_elements);
    lines.add(metric::WASM_TRAPS, [], sandbox.stats.traps(&metadata.config.name));
    lines.finish()
}

fn seconds_since_epoch(nanoseconds: i64) -> Option<u64> {
    u64::try_from(nanoseconds).ok().map(|nanoseconds| nanoseconds / NANOSECONDS)
}

fn cpu(lines: &mut Lines, container: &Container, usage: &ContainerUsage, detail: &Detail) {
    let seconds = |nanoseconds: u64| nanoseconds / NANOSECONDS;
    lines.add(metric::CPU_USAGE, ["total"], usage.group.cpu.map(|cpu| seconds(cpu.usage_ns)));
    lines.add(metric::CPU_USER, [], detail.user_ns.map(seconds));
    lines.add(metric::CPU_SYSTEM, [], detail.system_ns.map(seconds));
    lines.add(metric::CFS_PERIODS, [], detail.throttling.periods);
    lines.add(metric::CFS_THROTTLED_PERIODS, [], detail.throttling.throttled_periods);
    lines.add(metric::CFS_THROTTLED, [], seconds(detail.throttling.throttled_ns));
    lines.add(metric::SPEC_CPU_PERIOD, [], detail.cpu_period_us);
    lines.add(metric::SPEC_CPU_QUOTA, [], detail.cpu_quota_us);
    let asked = container.resources().and_then(|resources| u64::try_from(resources.cpu_shares).ok());
    let shares = detail.cpu_shares.or(asked.filter(|shares| *shares > 0)).unwrap_or(DEFAULT_SHARES);
    lines.add(metric::SPEC_CPU_SHARES, [], shares);
}

fn memory(lines: &mut Lines, usage: &ContainerUsage, detail: &Detail) {
    if let Some(memory) = &usage.group.memory {
        lines.add(metric::MEMORY_CACHE, [], memory.cache);
        lines.add(metric::MEMORY_MAPPED, [], memory.mapped_file);
        lines.add(metric::MEMORY_RSS, [], memory.rss);
        lines.add(metric::MEMORY_USAGE, [], memory.usage);
        lines.add(metric::MEMORY_WORKING_SET, [], memory.working_set);
        lines.add(metric::MEMORY_FAILURES, ["pgfault", "container"], memory.page_faults);
        lines.add(metric::MEMORY_FAILURES, ["pgmajfault", "container"], memory.major_page_faults);
        // Kernels before 5.19 do not keep it on v2.
        lines.add(metric::MEMORY_MAX, [], detail.max_usage.unwrap_or(memory.usage));
        lines.add(metric::SPEC_MEMORY_LIMIT, [], memory.limit.unwrap_or(0));
    }
    lines.add(metric::MEMORY_FAILCNT, [], detail.limit_hits);
    lines.add(metric::MEMORY_KERNEL, [], detail.kernel_memory);
    // A kernel that does not count swap lets nobody have any.
    lines.add(metric::MEMORY_SWAP, [], usage.group.swap.map_or(0, |swap| swap.usage));
    lines.add(metric::SPEC_MEMORY_SWAP_LIMIT, [], detail.swap_limit.unwrap_or(0));
    lines.add(metric::OOM_EVENTS, [], detail.oom_kills);
}

fn pressure(lines: &mut Lines, usage: &ContainerUsage) {
    let group = &usage.group;
    let mut pair = |stalled, waiting, pressure: Option<Pressure>| {
        lines.add(stalled, [], pressure.map(|pressure| pressure.full.total_us / MICROSECONDS));
        lines.add(waiting, [], pressure.map(|pressure| pressure.some.total_us / MICROSECONDS));
    };
    pair(metric::PRESSURE_CPU_STALLED, metric::PRESSURE_CPU_WAITING, group.cpu.and_then(|cpu| cpu.pressure));
    pair(metric::PRESSURE_MEMORY_STALLED, metric::PRESSURE_MEMORY_WAITING, group.memory.and_then(|memory| memory.pressure));
    pair(metric::PRESSURE_IO_STALLED, metric::PRESSURE_IO_WAITING, group.io_pressure);
}

fn disk(lines: &mut Lines, usage: &ContainerUsage, detail: &Detail, filesystem: &Filesystem) {
    let device = filesystem.device.as_str();
    lines.add(metric::FS_USAGE, [device], usage.layer.map(|layer| layer.size.bytes));
    lines.add(metric::FS_LIMIT, [device], filesystem.bytes);
    lines.add(metric::FS_INODES_FREE, [device], filesystem.free_inodes);
    lines.add(metric::FS_INODES, [device], filesystem.inodes);
    for used in &detail.devices {
        let name = used.name();
        lines.add(metric::FS_READS, [&name], used.reads);
        lines.add(metric::FS_READ_BYTES, [&name], used.read_bytes);
        lines.add(metric::FS_WRITES, [&name], used.writes);
        lines.add(metric::FS_WRITTEN_BYTES, [&name], used.written_bytes);
        let (major, minor) = (used.number.0.to_string(), used.number.1.to_string());
        for (operation, bytes) in [("Read", used.read_bytes), ("Write", used.written_bytes)] {
            lines.add(metric::BLKIO_USAGE, [&name, &major, &minor, operation], bytes);
        }
    }
}

fn network(lines: &mut Lines, interface: &Interface) {
    let name = [interface.name.as_str()];
    let (received, sent) = (interface.received, interface.sent);
    lines.add(metric::RECEIVE_BYTES, name, received.bytes);
    lines.add(metric::RECEIVE_PACKETS, name, received.packets);
    lines.add(metric::RECEIVE_ERRORS, name, received.errors);
    lines.add(metric::RECEIVE_DROPPED, name, received.dropped);
    lines.add(metric::TRANSMIT_BYTES, name, sent.bytes);
    lines.add(metric::TRANSMIT_PACKETS, name, sent.packets);
    lines.add(metric::TRANSMIT_ERRORS, name, sent.errors);
    lines.add(metric::TRANSMIT_DROPPED, name, sent.dropped);
}
