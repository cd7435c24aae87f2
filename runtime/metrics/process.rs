//! The daemon's own process, under the names that all of Prometheus' client libraries have for it; read when somebody asks.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// What `/proc/self` says.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(stat) = Stat::read() else { return Ok(()) };
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        let bytes = Some(&Unit::Bytes);
        gauge("process_resident_memory", "Resident memory of the daemon.", bytes, stat.resident_bytes)?;
        gauge("process_virtual_memory", "Virtual memory of the daemon.", bytes, stat.virtual_bytes)?;
        gauge("process_threads", "Threads of the daemon.", None, stat.threads)?;
        if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
            let open = i64::try_from(descriptors.count()).unwrap_or(i64::MAX);
            gauge("process_open_fds", "File descriptors that the daemon has open.", None, open)?;
        }
        if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            gauge("process_max_fds", "File descriptors that the daemon may have open.", None, most)?;
        }
        let started = ConstGauge::new(stat.started_at);
        let seconds = Some(&Unit::Seconds);
        let help = "Start of the daemon, since the epoch.";
        started.encode(encoder.encode_descriptor("process_start_time", help, seconds, started.metric_type())?)?;
        let cpu = ConstCounter::new(stat.cpu_seconds);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu",
            "CPU time of the daemon, user and system.",
            seconds,
            cpu.metric_type(),
        )?)
    }
}

/// Fields of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: i64,
    started_at: f64,
    virtual_bytes: i64,
    resident_bytes: i64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let page = i64::try_from(rustix::param::page_size()).ok()?;
        Self::parse(&stat, boot, rustix::param::clock_ticks_per_second(), page)
    }

    fn parse(stat: &str, boot: f64, ticks_per_second: u64, page: i64) -> Option<Self> {
        // The second field is a name in parentheses, which may have anything in it; the next is the third.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<i64>().ok();
        #[allow(clippy::cast_precision_loss, reason = "ticks since the boot fit")]
        let seconds = |ticks: i64| ticks as f64 / ticks_per_second.max(1) as f64;
        Some(Self {
            cpu_seconds: seconds(field(14)?.checked_add(field(15)?)?),
            threads: field(20)?,
            started_at: boot + seconds(field(22)?),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)?.checked_mul(page)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual_whatever_the_process_is_called() {
        let line = "42 (a) b) S 1 42 42 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 7 0 1000 4096000 25 0";
        let expected =
            Stat { cpu_seconds: 4.0, threads: 7, started_at: 110.0, virtual_bytes: 4_096_000, resident_bytes: 102_400 };
        assert_eq!(Stat::parse(line, 100.0, 100, 4096), Some(expected));
        assert_eq!(Stat::parse("42 (x) S 1", 0.0, 100, 4096), None);
        assert!(Stat::read().unwrap().resident_bytes > 0);
    }
}
