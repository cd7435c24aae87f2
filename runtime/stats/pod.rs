//! What a pod uses as a whole: its control group, its network, and its containers.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::group::{CpuUsage, GroupUsage, MemoryUsage, Meter, SwapUsage};
use super::kept::{Budget, Kept};
use super::parse::{self, Interface};
use super::rate::Rate;
use super::{Measured, is_there};
use crate::cgroup::Cgroup;
use crate::network::netns;
use crate::sandbox::{self, Sandbox, SandboxMetadata, SandboxState};
use crate::state::Runtime;

/// What is measured of one sandbox; part of it.
#[derive(Debug, Default)]
pub struct OfSandbox(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    group: Option<Meter>,
    network: Option<Kept>,
    /// Of a pod without a group of its own.
    rate: Rate,
}

impl OfSandbox {
    /// Closes what is open, the pod's network namespace with it. For a sandbox that is no longer ready.
    pub fn close(&self) {
        *self.lock() = Open::default();
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pod uses.
#[derive(Debug, Clone, Default)]
pub struct PodUsage {
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// Its group, or its containers together.
    pub group: GroupUsage,
    /// Its interfaces, the loopback left out; `None` on the node's network.
    pub interfaces: Option<Vec<Interface>>,
    /// Its running containers.
    pub containers: Vec<Measured>,
}

/// Measures a sandbox. One that is not ready has nothing but its time.
pub(super) fn measure(runtime: &Runtime, sandbox: &Sandbox, buffer: &mut Vec<u8>) -> PodUsage {
    let timestamp = wasm_host::protocol::now();
    let containers: Vec<_> = sandbox
        .containers()
        .iter()
        .filter_map(|id| runtime.containers.get(id.as_str()))
        .filter(|container| container.state() == crate::container::ContainerState::Running)
        .filter_map(|container| {
            let usage = super::measure(runtime, &container, buffer);
            is_there(runtime, &container, &usage).then_some((container, usage))
        })
        .collect();
    let mut open = sandbox.stats.lock();
    // Seen under the lock, as a container's state is.
    if sandbox.state() != SandboxState::Ready {
        return PodUsage { timestamp, ..PodUsage::default() };
    }
    let budget = &runtime.stats.budget;
    let group = match group_of(runtime, sandbox.metadata()) {
        Some(cgroup) => {
            let meter = open.group.get_or_insert_with(|| Meter::new(&cgroup, runtime.cgroups.version(), budget));
            meter.read(buffer)
        }
        None => sum(&containers, timestamp, &mut open.rate),
    };
    let interfaces = if sandbox.metadata().config.host_network() {
        None
    } else {
        interfaces(&mut open.network, &sandbox::network::namespace(runtime, sandbox.metadata()), budget, buffer)
    };
    PodUsage { timestamp, group, interfaces, containers }
}

/// The group that counts this pod and nobody else: our own, or the one that the kubelet has made for it, whose name ends with
/// the pod's uid (in the systemd driver's notation with underscores). Any other parent may be that of many pods.
fn group_of(runtime: &Runtime, metadata: &SandboxMetadata) -> Option<Cgroup> {
    runtime.cgroup_at(&metadata.cgroup_parent).filter(|_| metadata.cgroup_owned || names_pod(metadata))
}

fn names_pod(metadata: &SandboxMetadata) -> bool {
    let uid = metadata.config.name.uid.as_str();
    let last = metadata.cgroup_parent.rsplit('/').next().unwrap_or_default();
    let last = last.strip_suffix(".slice").unwrap_or(last);
    !uid.is_empty() && (last.ends_with(uid) || last.ends_with(&uid.replace('-', "_")))
}

/// Containers together. What one of them does not tell is not part of the sum.
fn sum(containers: &[Measured], timestamp: i64, rate: &mut Rate) -> GroupUsage {
    let groups = || containers.iter().map(|(_, usage)| &usage.group);
    let cpu = groups().filter_map(|group| group.cpu).map(|cpu| cpu.usage_ns).reduce(u64::saturating_add);
    let memory = groups().filter_map(|group| group.memory).reduce(|one, other| MemoryUsage {
        usage: one.usage.saturating_add(other.usage),
        working_set: one.working_set.saturating_add(other.working_set),
        rss: one.rss.saturating_add(other.rss),
        cache: one.cache.saturating_add(other.cache),
        mapped_file: one.mapped_file.saturating_add(other.mapped_file),
        page_faults: one.page_faults.saturating_add(other.page_faults),
        major_page_faults: one.major_page_faults.saturating_add(other.major_page_faults),
        ..MemoryUsage::default()
    });
    let swap = groups().filter_map(|group| group.swap).map(|swap| swap.usage).reduce(u64::saturating_add);
    GroupUsage {
        cpu: cpu.map(|usage_ns| CpuUsage {
            timestamp,
            usage_ns,
            nano_cores: rate.observe(Instant::now(), usage_ns),
            pressure: None,
        }),
        // Limits and stalls are not additive.
        memory: memory.map(|memory| MemoryUsage { timestamp, limit: None, pressure: None, ..memory }),
        swap: swap.map(|usage| SwapUsage { timestamp, usage, available: None }),
        tasks: groups().filter_map(|group| group.tasks).reduce(u64::saturating_add),
        io_pressure: None,
    }
}

/// The file is opened once by a thread that enters the namespace; from then on its descriptor tells of that namespace wherever it
/// is read. It keeps the namespace, so it is closed before that goes.
fn interfaces(file: &mut Option<Kept>, namespace: &Path, budget: &Arc<Budget>, buffer: &mut Vec<u8>) -> Option<Vec<Interface>> {
    if file.is_none() {
        let opened = netns::open_in(namespace, Path::new("/proc/thread-self/net/dev"))
            .inspect_err(|error| tracing::debug!(%error, "the interfaces of a pod cannot be counted"))
            .ok()?;
        *file = Some(Kept::opened(opened, budget));
    }
    let kept = file.as_mut()?;
    let found = kept.read(buffer).map(parse::interfaces);
    if !kept.has_place() {
        *file = None;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::metadata::example;

    #[test]
    fn only_a_group_that_is_the_pods_own_counts_for_it() {
        let mut metadata = example("s");
        metadata.cgroup_owned = false;
        metadata.config.name.uid = "0f9a-12".to_owned();
        for (parent, own) in [
            ("/kubepods/burstable/pod0f9a-12", true),
            ("/kubepods.slice/kubepods-pod0f9a_12.slice", true),
            ("/kubepods", false),
            ("/", false),
            ("", false),
        ] {
            metadata.cgroup_parent = parent.to_owned();
            assert_eq!(names_pod(&metadata), own, "{parent}");
        }
        metadata.config.name.uid = String::new();
        metadata.cgroup_parent = "/anything".to_owned();
        assert!(!names_pod(&metadata));
    }
}
