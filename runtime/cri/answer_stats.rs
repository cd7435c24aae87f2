//! From measurements to CRI's messages.

use crate::container::Container;
use crate::network::INTERFACE;
use crate::proto::runtime::v1 as cri;
use crate::sandbox::Sandbox;
use crate::state::Runtime;
use crate::stats::ContainerUsage;
use crate::stats::group::{CpuUsage, MemoryUsage, SwapUsage};
use crate::stats::layer::LayerUsage;
use crate::stats::parse::{Interface, Pressure, Stall};
use crate::stats::pod::PodUsage;

/// An item of ListContainerStats. Kubelets crash without `attributes`, so they are always there.
pub fn container(runtime: &Runtime, container: &Container, usage: &ContainerUsage) -> cri::ContainerStats {
    let metadata = container.metadata();
    let config = &metadata.config;
    let group = &usage.group;
    cri::ContainerStats {
        attributes: Some(cri::ContainerAttributes {
            id: metadata.id.to_string(),
            metadata: Some(cri::ContainerMetadata { name: config.name.clone(), attempt: config.attempt }),
            labels: config.labels.clone().into_iter().collect(),
            annotations: config.annotations.clone().into_iter().collect(),
        }),
        cpu: group.cpu.map(cpu),
        memory: group.memory.map(memory),
        writable_layer: usage.layer.map(|usage| layer(runtime, usage)),
        swap: group.swap.map(swap),
        io: io(group.io_pressure, group.cpu),
    }
}

/// An item of ListPodSandboxStats.
pub fn sandbox(runtime: &Runtime, sandbox: &Sandbox, usage: &PodUsage) -> cri::PodSandboxStats {
    let metadata = sandbox.metadata();
    let config = &metadata.config;
    let group = &usage.group;
    cri::PodSandboxStats {
        attributes: Some(cri::PodSandboxAttributes {
            id: metadata.id.to_string(),
            metadata: Some(super::answer_sandbox::name(&config.name)),
            labels: config.labels.clone().into_iter().collect(),
            annotations: config.annotations.clone().into_iter().collect(),
        }),
        linux: Some(cri::LinuxPodSandboxStats {
            cpu: group.cpu.map(cpu),
            memory: group.memory.map(memory),
            network: usage.interfaces.as_ref().map(|interfaces| network(interfaces, usage.timestamp)),
            process: group
                .tasks
                .map(|tasks| cri::ProcessUsage { timestamp: usage.timestamp, process_count: Some(number(tasks)) }),
            containers: usage.containers.iter().map(|(item, usage)| container(runtime, item, usage)).collect(),
            io: io(group.io_pressure, group.cpu),
        }),
        windows: None,
    }
}

fn cpu(usage: CpuUsage) -> cri::CpuUsage {
    cri::CpuUsage {
        timestamp: usage.timestamp,
        usage_core_nano_seconds: Some(number(usage.usage_ns)),
        usage_nano_cores: usage.nano_cores.map(number),
        psi: usage.pressure.map(pressure),
    }
}

fn memory(usage: MemoryUsage) -> cri::MemoryUsage {
    cri::MemoryUsage {
        timestamp: usage.timestamp,
        working_set_bytes: Some(number(usage.working_set)),
        available_bytes: usage.available().map(number),
        usage_bytes: Some(number(usage.usage)),
        rss_bytes: Some(number(usage.rss)),
        page_faults: Some(number(usage.page_faults)),
        major_page_faults: Some(number(usage.major_page_faults)),
        psi: usage.pressure.map(pressure),
    }
}

fn swap(usage: SwapUsage) -> cri::SwapUsage {
    cri::SwapUsage {
        timestamp: usage.timestamp,
        swap_available_bytes: usage.available.map(number),
        swap_usage_bytes: Some(number(usage.usage)),
    }
}

/// Stalls are all that is told of input and output.
fn io(stalls: Option<Pressure>, cpu: Option<CpuUsage>) -> Option<cri::IoUsage> {
    let psi = stalls.map(pressure)?;
    Some(cri::IoUsage { timestamp: cpu.map_or_else(wasm_host::protocol::now, |cpu| cpu.timestamp), psi: Some(psi) })
}

/// The mount point is the same for all containers: the kubelet asks the node about each one that it is told.
fn layer(runtime: &Runtime, usage: LayerUsage) -> cri::FilesystemUsage {
    let mountpoint = runtime.config.root.join("containers").to_string_lossy().into_owned();
    cri::FilesystemUsage {
        timestamp: usage.timestamp,
        fs_id: Some(cri::FilesystemIdentifier { mountpoint }),
        used_bytes: Some(number(usage.size.bytes)),
        inodes_used: Some(number(usage.size.inodes)),
    }
}

fn network(interfaces: &[Interface], timestamp: i64) -> cri::NetworkUsage {
    let (default, others): (Vec<_>, Vec<_>) = interfaces.iter().partition(|interface| interface.name == INTERFACE);
    cri::NetworkUsage {
        timestamp,
        default_interface: default.into_iter().map(interface).next(),
        interfaces: others.into_iter().map(interface).collect(),
    }
}

fn interface(counted: &Interface) -> cri::NetworkInterfaceUsage {
    cri::NetworkInterfaceUsage {
        name: counted.name.clone(),
        rx_bytes: Some(number(counted.received.bytes)),
        rx_errors: Some(number(counted.received.errors)),
        tx_bytes: Some(number(counted.sent.bytes)),
        tx_errors: Some(number(counted.sent.errors)),
    }
}

/// Totals in microseconds, as the kernel has them and as every runtime hands them to the kubelet; the CRI's text says
/// nanoseconds.
fn pressure(pressure: Pressure) -> cri::PsiStats {
    let line =
        |stall: Stall| Some(cri::PsiData { total: stall.total_us, avg10: stall.avg10, avg60: stall.avg60, avg300: stall.avg300 });
    cri::PsiStats { full: line(pressure.full), some: line(pressure.some) }
}

fn number(value: u64) -> cri::UInt64Value {
    cri::UInt64Value { value }
}
