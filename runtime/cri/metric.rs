//! The metrics: cAdvisor's names, meanings and labels, so that what reads a kubelet's `/metrics/cadvisor` finds what it knows,
//! and some of our own.
//!
//! The kubelet refuses a whole scrape for one metric whose labels are not as many as its descriptor's keys, or that comes twice
//! with the same ones. So a metric is only made by [`Lines::add`], from the [`Descriptor`] that ListMetricDescriptors tells.

use crate::proto::runtime::v1 as cri;
use crate::proto::runtime::v1::MetricType;

/// Labels that every metric begins with. The container's are empty in metrics of a pod.
const COMMON: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// One metric.
#[derive(Debug)]
pub struct Descriptor {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    /// Labels besides the common ones.
    labels: &'static [&'static str],
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub const $constant: &Descriptor =
            &Descriptor { name: $name, help: $help, kind: MetricType::$kind, labels: &[$($label),*] };)*
        /// All of them.
        pub const ALL: &[&Descriptor] = &[$($constant),*];
    };
}

metrics! {
    CPU_USAGE = Counter "container_cpu_usage_seconds_total" ["cpu"] "Processor time used, in seconds of one processor.";
    CPU_USER = Counter "container_cpu_user_seconds_total" [] "Processor time used outside of the kernel, in seconds.";
    CPU_SYSTEM = Counter "container_cpu_system_seconds_total" [] "Processor time used in the kernel, in seconds.";
    CFS_PERIODS = Counter "container_cpu_cfs_periods_total" [] "Periods of the processor quota in which something ran.";
    CFS_THROTTLED_PERIODS = Counter "container_cpu_cfs_throttled_periods_total" []
        "Periods in which the processor quota was used up.";
    CFS_THROTTLED = Counter "container_cpu_cfs_throttled_seconds_total" []
        "Time spent waiting for the next period of the processor quota, in seconds.";
    SPEC_CPU_PERIOD = Gauge "container_spec_cpu_period" [] "Period of the processor quota, in microseconds.";
    SPEC_CPU_QUOTA = Gauge "container_spec_cpu_quota" [] "Processor quota in each period, in microseconds.";
    SPEC_CPU_SHARES = Gauge "container_spec_cpu_shares" [] "Processor shares.";

    MEMORY_CACHE = Gauge "container_memory_cache" [] "Page cache, in bytes.";
    MEMORY_FAILCNT = Counter "container_memory_failcnt" [] "How often the memory limit was hit.";
    MEMORY_FAILURES = Counter "container_memory_failures_total" ["failure_type", "scope"]
        "Page faults: all (pgfault), and those that read from a disk (pgmajfault).";
    MEMORY_KERNEL = Gauge "container_memory_kernel_usage" [] "Memory that the kernel uses on behalf of the container, in bytes.";
    MEMORY_MAPPED = Gauge "container_memory_mapped_file" [] "Mapped files, in bytes.";
    MEMORY_MAX = Gauge "container_memory_max_usage_bytes" [] "The most memory in use so far, in bytes.";
    MEMORY_RSS = Gauge "container_memory_rss" [] "Anonymous memory, in bytes.";
    MEMORY_SWAP = Gauge "container_memory_swap" [] "Swap in use, in bytes.";
    MEMORY_USAGE = Gauge "container_memory_usage_bytes" [] "Memory in use, page cache included, in bytes.";
    MEMORY_WORKING_SET = Gauge "container_memory_working_set_bytes" [] "Memory in use without the inactive page cache, in bytes.";
    SPEC_MEMORY_LIMIT = Gauge "container_spec_memory_limit_bytes" [] "Memory limit in bytes; 0: none.";
    SPEC_MEMORY_SWAP_LIMIT = Gauge "container_spec_memory_swap_limit_bytes" []
        "Swap limit in bytes, on cgroup v1 of memory and swap together; 0: none.";
    OOM_EVENTS = Counter "container_oom_events_total" [] "Processes killed for memory.";

    PRESSURE_CPU_STALLED = Counter "container_pressure_cpu_stalled_seconds_total" []
        "Time in which all tasks waited for a processor, in seconds.";
    PRESSURE_CPU_WAITING = Counter "container_pressure_cpu_waiting_seconds_total" []
        "Time in which some task waited for a processor, in seconds.";
    PRESSURE_IO_STALLED = Counter "container_pressure_io_stalled_seconds_total" []
        "Time in which all tasks waited for input or output, in seconds.";
    PRESSURE_IO_WAITING = Counter "container_pressure_io_waiting_seconds_total" []
        "Time in which some task waited for input or output, in seconds.";
    PRESSURE_MEMORY_STALLED = Counter "container_pressure_memory_stalled_seconds_total" []
        "Time in which all tasks waited for memory, in seconds.";
    PRESSURE_MEMORY_WAITING = Counter "container_pressure_memory_waiting_seconds_total" []
        "Time in which some task waited for memory, in seconds.";

    PROCESSES = Gauge "container_processes" [] "Processes.";
    THREADS = Gauge "container_threads" [] "Threads.";
    THREADS_MAX = Gauge "container_threads_max" [] "Threads allowed; 0: any number.";
    FILE_DESCRIPTORS = Gauge "container_file_descriptors" [] "Open file descriptors.";
    SOCKETS = Gauge "container_sockets" [] "Open sockets.";
    START_TIME = Gauge "container_start_time_seconds" [] "When it was started, in seconds since the epoch.";
    LAST_SEEN = Gauge "container_last_seen" [] "When it was seen last, in seconds since the epoch.";

    FS_USAGE = Gauge "container_fs_usage_bytes" ["device"] "What its writable layer takes, in bytes.";
    FS_LIMIT = Gauge "container_fs_limit_bytes" ["device"] "Size of the file system of its writable layer, in bytes.";
    FS_INODES_FREE = Gauge "container_fs_inodes_free" ["device"] "Free inodes of that file system.";
    FS_INODES = Gauge "container_fs_inodes_total" ["device"] "Inodes of that file system.";
    FS_READS = Counter "container_fs_reads_total" ["device"] "Reads from a block device.";
    FS_READ_BYTES = Counter "container_fs_reads_bytes_total" ["device"] "Bytes read from a block device.";
    FS_WRITES = Counter "container_fs_writes_total" ["device"] "Writes to a block device.";
    FS_WRITTEN_BYTES = Counter "container_fs_writes_bytes_total" ["device"] "Bytes written to a block device.";
    BLKIO_USAGE = Counter "container_blkio_device_usage_total" ["device", "major", "minor", "operation"]
        "Bytes read from and written to a block device.";

    RECEIVE_BYTES = Counter "container_network_receive_bytes_total" ["interface"] "Bytes received.";
    RECEIVE_PACKETS = Counter "container_network_receive_packets_total" ["interface"] "Packets received.";
    RECEIVE_ERRORS = Counter "container_network_receive_errors_total" ["interface"] "Damaged packets received.";
    RECEIVE_DROPPED = Counter "container_network_receive_packets_dropped_total" ["interface"] "Packets dropped on their way in.";
    TRANSMIT_BYTES = Counter "container_network_transmit_bytes_total" ["interface"] "Bytes sent.";
    TRANSMIT_PACKETS = Counter "container_network_transmit_packets_total" ["interface"] "Packets sent.";
    TRANSMIT_ERRORS = Counter "container_network_transmit_errors_total" ["interface"] "Packets that could not be sent.";
    TRANSMIT_DROPPED = Counter "container_network_transmit_packets_dropped_total" ["interface"]
        "Packets dropped on their way out.";

    WASM_INSTANCES = Gauge "container_wasm_instances" [] "Guests that run: the container's own and commands beside it.";
    WASM_MEMORY = Gauge "container_wasm_linear_memory_bytes" []
        "Linear memory of the container's own guest, touched or not, in bytes.";
    WASM_TABLE = Gauge "container_wasm_table_elements" [] "Elements in the tables of the container's own guest.";
    WASM_TRAPS = Counter "container_wasm_traps_total" [] "Guests of containers of this name that ended by a trap in this pod.";
}

impl Descriptor {
    /// As ListMetricDescriptors tells it.
    pub fn message(&self) -> cri::MetricDescriptor {
        let labels = COMMON.into_iter().chain(self.labels.iter().copied());
        cri::MetricDescriptor {
            name: self.name.to_owned(),
            help: self.help.to_owned(),
            label_keys: labels.map(str::to_owned).collect(),
        }
    }
}

/// Who metrics are about.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The container's name; empty for a pod.
    pub container: String,
    /// The path of its cgroup, as cAdvisor names containers; its own id where it has none.
    pub id: String,
    /// Its image; empty for a pod.
    pub image: String,
    /// Its id.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
}

/// Metrics of one subject.
#[derive(Debug)]
pub struct Lines {
    common: [String; COMMON.len()],
    metrics: Vec<cri::Metric>,
}

impl Lines {
    /// None yet.
    pub fn of(subject: Subject) -> Self {
        let Subject { container, id, image, name, namespace, pod } = subject;
        Self { common: [container, id, image, name, namespace, pod], metrics: Vec::new() }
    }

    /// Adds one. A value that is not known is not told. `labels` are as many as the descriptor has besides the common ones.
    pub fn add<const N: usize>(&mut self, descriptor: &Descriptor, labels: [&str; N], value: impl Into<Option<u64>>) {
        let Some(value) = value.into() else { return };
        debug_assert_eq!(N, descriptor.labels.len(), "{}", descriptor.name);
        self.metrics.push(cri::Metric {
            name: descriptor.name.to_owned(),
            // Just now: who scrapes gives it the time of the scrape.
            timestamp: 0,
            metric_type: descriptor.kind.into(),
            label_values: self.common.iter().cloned().chain(labels.map(str::to_owned)).collect(),
            value: Some(cri::UInt64Value { value }),
        });
    }

    /// All of them.
    pub fn finish(self) -> Vec<cri::Metric> {
        self.metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_those_of_metrics_and_come_once() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let message = metric.message();
            assert!(message.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", message.name);
            assert!(message.name.starts_with("container_") && message.help.ends_with('.'), "{}", message.name);
            assert_eq!(message.label_keys.iter().collect::<BTreeSet<_>>().len(), message.label_keys.len(), "{}", message.name);
            // cAdvisor's names, not ours.
            let named_so = match metric.name {
                "container_memory_failcnt" => true,
                "container_fs_inodes_total" => false,
                name => name.ends_with("_total"),
            };
            assert_eq!(metric.kind == MetricType::Counter, named_so, "{}", metric.name);
        }
    }

    #[test]
    fn a_metric_has_a_label_for_each_key_and_nothing_is_told_of_what_is_not_known() {
        let mut lines = Lines::of(Subject { container: "app".into(), ..Subject::default() });
        lines.add(MEMORY_FAILURES, ["pgfault", "container"], 3);
        lines.add(CPU_USAGE, ["total"], None);
        let metrics = lines.finish();
        assert_eq!(metrics.len(), 1);
        let keys = MEMORY_FAILURES.message().label_keys;
        assert_eq!(metrics[0].label_values.len(), keys.len());
        assert_eq!((keys[0].as_str(), metrics[0].label_values[0].as_str()), ("container", "app"));
        assert_eq!((keys[6].as_str(), metrics[0].label_values[6].as_str()), ("failure_type", "pgfault"));
        assert_eq!((metrics[0].timestamp, metrics[0].value), (0, Some(cri::UInt64Value { value: 3 })));
    }
}
