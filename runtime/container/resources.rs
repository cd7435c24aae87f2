//! What a container or a pod may use, as the client asked for it, and how that becomes limits of its cgroup.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cgroup::Limits;

/// CRI's LinuxContainerResources; 0 and empty mean not given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds per period.
    pub cpu_quota: i64,
    /// Relative weight, as cgroup v1 counts it (1024: one processor).
    pub cpu_shares: i64,
    /// Bytes.
    pub memory_limit: i64,
    /// Bytes of memory and swap together.
    pub memory_swap_limit: i64,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// List of processors: `0-3,7`.
    pub cpuset_cpus: String,
    /// List of memory nodes.
    pub cpuset_mems: String,
    /// Page size (`2MB`) and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// Files of cgroup v2 and their values.
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// These, changed by an update: what the update does not give stays.
    ///
    /// A new memory limit without one of swap takes the old one of swap with it, as a container that is created with these
    /// would have it. Page sizes and files of `unified` are changed one by one.
    pub fn updated(&self, update: &Resources) -> Resources {
        let number = |new: i64, old: i64| if new == 0 { old } else { new };
        let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
        let swap = if update.memory_limit == 0 { self.memory_swap_limit } else { 0 };
        let mut hugepages = self.hugepages.clone();
        for (size, bytes) in &update.hugepages {
            match hugepages.iter_mut().find(|(known, _)| known == size) {
                Some((_, old)) => *old = *bytes,
                None => hugepages.push((size.clone(), *bytes)),
            }
        }
        let mut unified = self.unified.clone();
        unified.extend(update.unified.clone());
        Resources {
            cpu_period: number(update.cpu_period, self.cpu_period),
            cpu_quota: number(update.cpu_quota, self.cpu_quota),
            cpu_shares: number(update.cpu_shares, self.cpu_shares),
            memory_limit: number(update.memory_limit, self.memory_limit),
            memory_swap_limit: number(update.memory_swap_limit, swap),
            oom_score_adj: number(update.oom_score_adj, self.oom_score_adj),
            cpuset_cpus: text(&update.cpuset_cpus, &self.cpuset_cpus),
            cpuset_mems: text(&update.cpuset_mems, &self.cpuset_mems),
            hugepages,
            unified,
        }
    }

    /// These and what a pod costs beside its containers. A sum of which one part is not given, or unlimited, is just that.
    pub fn with_overhead(&self, overhead: &Resources) -> Resources {
        let sum = |these: i64, overhead: i64| if these > 0 { these.saturating_add(overhead.max(0)) } else { these };
        let same_period = overhead.cpu_period == 0 || overhead.cpu_period == self.cpu_period;
        Resources {
            cpu_quota: if same_period { sum(self.cpu_quota, overhead.cpu_quota) } else { self.cpu_quota },
            cpu_shares: sum(self.cpu_shares, overhead.cpu_shares),
            memory_limit: sum(self.memory_limit, overhead.memory_limit),
            memory_swap_limit: sum(self.memory_swap_limit, overhead.memory_limit),
            ..self.clone()
        }
    }

    /// The limits of the cgroup. A memory limit without one of swap means: no swap, as containerd has it.
    pub fn limits(&self) -> Limits {
        let given = |value: i64| (value != 0).then_some(value);
        let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0);
        let text = |value: &String| (!value.is_empty()).then(|| value.clone());
        Limits {
            memory_bytes: given(self.memory_limit),
            swap_bytes: given(self.memory_swap_limit).or(given(self.memory_limit)),
            cpu_shares: positive(self.cpu_shares),
            cpu_quota_us: given(self.cpu_quota),
            cpu_period_us: positive(self.cpu_period),
            cpuset_cpus: text(&self.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems),
            pids: None,
            hugepages: self.hugepages.clone(),
            unified: self.unified.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_that_are_not_given_set_no_limit() {
        assert_eq!(Resources::default().limits(), Limits::default());
        let resources = Resources { memory_limit: 1 << 20, cpu_quota: -1, cpuset_cpus: "0".into(), ..Resources::default() };
        let limits = resources.limits();
        assert_eq!((limits.memory_bytes, limits.cpu_quota_us, limits.cpu_shares), (Some(1 << 20), Some(-1), None));
        assert_eq!((limits.swap_bytes, limits.cpuset_cpus.as_deref()), (Some(1 << 20), Some("0")));
    }

    #[test]
    fn an_update_leaves_what_it_does_not_give() {
        let old = Resources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            memory_limit: 64,
            memory_swap_limit: 128,
            oom_score_adj: 985,
            cpuset_cpus: "0".into(),
            hugepages: vec![("2MB".into(), 0), ("1GB".into(), 0)],
            unified: BTreeMap::from([("memory.high".to_owned(), "1".to_owned())]),
            ..Resources::default()
        };
        assert_eq!(old.updated(&Resources::default()), old);
        let update = Resources {
            cpu_quota: -1,
            cpu_shares: 512,
            hugepages: vec![("1GB".into(), 1 << 30)],
            unified: BTreeMap::from([("cpu.idle".to_owned(), "1".to_owned())]),
            ..Resources::default()
        };
        let new = old.updated(&update);
        assert_eq!((new.cpu_quota, new.cpu_period, new.cpu_shares, new.memory_swap_limit), (-1, 100_000, 512, 128));
        assert_eq!(new.hugepages, [("2MB".to_owned(), 0), ("1GB".to_owned(), 1 << 30)]);
        assert_eq!(new.unified.len(), 2);
        assert_eq!((new.oom_score_adj, new.cpuset_cpus.as_str()), (985, "0"));
    }

    #[test]
    fn a_new_memory_limit_takes_the_old_limit_of_swap_with_it() {
        let old = Resources { memory_limit: 64, memory_swap_limit: 128, ..Resources::default() };
        let raised = old.updated(&Resources { memory_limit: 256, ..Resources::default() });
        assert_eq!((raised.memory_swap_limit, raised.limits().swap_bytes), (0, Some(256)));
        let both = old.updated(&Resources { memory_limit: 256, memory_swap_limit: 512, ..Resources::default() });
        assert_eq!(both.limits().swap_bytes, Some(512));
    }

    #[test]
    fn overhead_is_added_to_what_is_limited() {
        let pod = Resources { memory_limit: 64, cpu_shares: 512, cpu_quota: -1, cpu_period: 100_000, ..Resources::default() };
        let overhead =
            Resources { memory_limit: 8, cpu_shares: 2, cpu_quota: 1_000, cpu_period: 100_000, ..Resources::default() };
        let both = pod.with_overhead(&overhead);
        assert_eq!((both.memory_limit, both.cpu_shares, both.cpu_quota, both.memory_swap_limit), (72, 514, -1, 0));
        assert_eq!(Resources::default().with_overhead(&overhead).limits(), Limits::default());
    }
}
