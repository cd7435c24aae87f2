//! Limits as properties of a unit (systemd.resource-control(5)).
//!
//! systemd writes them into the same control files as the runtime does; they are told to it so that a `systemctl daemon-reload`
//! does not put back what was there before. What it has no property for (huge pages, files of `unified`) stands in the files alone.

use super::super::layout::Version;
use super::super::limits::{Limits, weight};
use super::wire::Value;

/// What systemd takes for no limit.
const INFINITY: u64 = u64::MAX;

/// systemd counts a quota in whole percents of a processor, and rounds down: a quota between two is rounded up, so that what
/// systemd sets is never less than what is asked for.
const PERCENT_US: u64 = 10_000;

/// The period that is meant where none is given.
const DEFAULT_PERIOD_US: u64 = 100_000;

pub(super) type Property = (&'static str, Value);

/// What is limited, in the words of systemd for this version of cgroups.
pub(super) fn of(limits: &Limits, version: Version) -> Vec<Property> {
    let unified = version == Version::V2;
    let mut properties = Vec::new();
    let mut number = |name, value| properties.push((name, Value::Number(value)));
    let or_infinity = |value: i64| u64::try_from(value).unwrap_or(INFINITY);
    if let Some(bytes) = limits.memory_bytes {
        number(if unified { "MemoryMax" } else { "MemoryLimit" }, or_infinity(bytes));
    }
    if let (true, Some(both)) = (unified, limits.swap_bytes) {
        let swap = match limits.memory_bytes {
            Some(memory) if both >= 0 && memory >= 0 => u64::try_from(both.saturating_sub(memory)).unwrap_or(0),
            _ => INFINITY,
        };
        number("MemorySwapMax", swap);
    }
    if let Some(shares) = limits.cpu_shares {
        if unified { number("CPUWeight", weight(shares)) } else { number("CPUShares", shares.clamp(2, 262_144)) }
    }
    if let Some(period) = limits.cpu_period_us {
        number("CPUQuotaPeriodUSec", period);
    }
    if let Some(quota) = limits.cpu_quota_us {
        number("CPUQuotaPerSecUSec", quota_per_second(quota, limits.cpu_period_us.unwrap_or(DEFAULT_PERIOD_US)));
    }
    if let Some(tasks) = limits.pids {
        number("TasksMax", or_infinity(tasks));
    }
    // On v1 systemd leaves cpusets alone.
    if unified {
        for (name, list) in [("AllowedCPUs", &limits.cpuset_cpus), ("AllowedMemoryNodes", &limits.cpuset_mems)] {
            if let Some(mask) = list.as_deref().filter(|list| !list.is_empty()).and_then(mask) {
                properties.push((name, Value::Bytes(mask)));
            }
        }
    }
    properties
}

fn quota_per_second(quota: i64, period: u64) -> u64 {
    let Some(quota) = u64::try_from(quota).ok().filter(|quota| *quota > 0 && period > 0) else { return INFINITY };
    let per_second = quota.saturating_mul(1_000_000) / period;
    per_second.next_multiple_of(PERCENT_US).max(PERCENT_US)
}

/// `0-2,8` as bits, the lowest of the first byte being number 0. `None`: it is no such list, which the control file says better.
fn mask(list: &str) -> Option<Vec<u8>> {
    /// More processors than any kernel is built for (`NR_CPUS`).
    const MOST: usize = 8192;
    let mut mask = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        mask.resize(mask.len().max(last / 8 + 1), 0);
        for number in first..=last {
            *mask.get_mut(number / 8)? |= 1 << (number % 8);
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            memory_bytes: Some(64 << 20),
            swap_bytes: Some(96 << 20),
            cpu_shares: Some(1024),
            cpu_quota_us: Some(15_100),
            cpu_period_us: Some(50_000),
            cpuset_cpus: Some("0-2,9".to_owned()),
            pids: Some(-1),
            ..Limits::default()
        }
    }

    #[test]
    fn limits_of_v2_are_told_in_its_words() {
        let number = |value| Value::Number(value);
        assert_eq!(
            of(&limits(), Version::V2),
            [
                ("MemoryMax", number(64 << 20)),
                ("MemorySwapMax", number(32 << 20)),
                ("CPUWeight", number(100)),
                ("CPUQuotaPeriodUSec", number(50_000)),
                // 302 ms of a second, in whole percents.
                ("CPUQuotaPerSecUSec", number(310_000)),
                ("TasksMax", number(INFINITY)),
                ("AllowedCPUs", Value::Bytes(vec![0b111, 0b10])),
            ]
        );
    }

    #[test]
    fn limits_of_v1_are_told_in_its_words() {
        let names: Vec<&str> = of(&limits(), Version::V1).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["MemoryLimit", "CPUShares", "CPUQuotaPeriodUSec", "CPUQuotaPerSecUSec", "TasksMax"]);
        let none = Limits { memory_bytes: Some(-1), cpu_quota_us: Some(-1), ..Limits::default() };
        let infinite = [("MemoryLimit", Value::Number(INFINITY)), ("CPUQuotaPerSecUSec", Value::Number(INFINITY))];
        assert_eq!(of(&none, Version::V1), infinite);
    }

    #[test]
    fn a_list_that_is_none_is_left_to_the_control_file() {
        for list in ["3-1", "x", "", "99999", "0,,1"] {
            assert_eq!(mask(list), None, "{list}");
        }
        assert_eq!(mask("0"), Some(vec![1]));
    }
}
