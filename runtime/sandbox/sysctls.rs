//! Kernel settings that a pod asks for.
//!
//! Settings of the network belong to the pod's network namespace, those of System V IPC and of message queues to its IPC namespace, the
//! domain name to the UTS namespaces of its guests: they are written there. Anything else would change the node and is refused.

use std::collections::BTreeMap;

use super::metadata::{NamespaceMode, SandboxConfig};
use crate::sysctl::Sysctl;

/// The setting of the domain name.
const DOMAIN: &str = "kernel.domainname";

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// It belongs to the node.
    #[error("the kernel setting {0:?} does not belong to a pod")]
    NotOfAPod(String),
    /// It belongs to the network, and the pod uses the node's.
    #[error("the kernel setting {0:?} cannot be set for a pod on the node's network")]
    HostNetwork(String),
    /// It belongs to IPC, and the pod uses the node's.
    #[error("the kernel setting {0:?} cannot be set for a pod in the node's IPC namespace")]
    HostIpc(String),
}

/// Refuses what cannot be set for a pod, before anything is made for it.
pub fn check(config: &SandboxConfig) -> Result<(), SysctlError> {
    for name in config.sysctls.keys() {
        if is_network(name) || dotted(name) == DOMAIN {
            if config.host_network() {
                return Err(SysctlError::HostNetwork(name.clone()));
            }
        } else if is_ipc(name) {
            if config.namespaces.ipc == NamespaceMode::Node {
                return Err(SysctlError::HostIpc(name.clone()));
            }
        } else {
            return Err(SysctlError::NotOfAPod(name.clone()));
        }
    }
    Ok(())
}

/// The settings of the IPC namespace.
pub fn of_ipc(sysctls: &BTreeMap<String, String>) -> Vec<Sysctl> {
    sysctls.iter().filter(|(name, _)| is_ipc(name)).filter_map(|(name, value)| Sysctl::new(name, value)).collect()
}

/// The domain name of the pod's guests.
pub fn domain_name(sysctls: &BTreeMap<String, String>) -> Option<&str> {
    sysctls.iter().find(|(name, _)| dotted(name) == DOMAIN).map(|(_, value)| value.as_str())
}

/// Names and values.
type Settings = Vec<(String, String)>;

/// The settings of the network: those that can be written at once, and those of interfaces that CNI makes first.
pub fn of_the_network(sysctls: &BTreeMap<String, String>) -> (Settings, Settings) {
    let network = sysctls.iter().filter(|(name, _)| is_network(name)).map(|(name, value)| (name.clone(), value.clone()));
    network.partition(|(name, _)| !is_of_an_interface(name))
}

fn is_network(name: &str) -> bool {
    name.starts_with("net.") || name.starts_with("net/")
}

/// `net.ipv4.conf.eth0.…`: the kernel has such names for interfaces that are there, and for `all`, `default` and `lo` always.
fn is_of_an_interface(name: &str) -> bool {
    let mut parts = name.split(['.', '/']).skip(2);
    matches!(parts.next(), Some("conf" | "neigh")) && !matches!(parts.next(), Some("all" | "default" | "lo"))
}

fn dotted(name: &str) -> String {
    name.replace('/', ".")
}

fn is_ipc(name: &str) -> bool {
    // A name that is none (`kernel.shm/../panic`) is not let in.
    let Some(sysctl) = Sysctl::new(name, "") else { return false };
    let name = dotted(&sysctl.name);
    name.starts_with("kernel.shm") || name.starts_with("kernel.msg") || name == "kernel.sem" || name.starts_with("fs.mqueue.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), "1".to_owned())])
    }

    fn with(name: &str) -> SandboxConfig {
        SandboxConfig { sysctls: one(name), ..super::super::metadata::example("s1").config }
    }

    #[test]
    fn settings_of_a_pods_namespaces_are_accepted_and_the_nodes_refused() {
        for name in [
            "net.ipv4.tcp_syncookies",
            "net/ipv4/tcp_syncookies",
            "kernel.shm_rmid_forced",
            "fs.mqueue.msg_max",
            "kernel.domainname",
        ] {
            check(&with(name)).unwrap();
        }
        for name in ["kernel.panic", "vm.swappiness", "network", "fs.mqueue", "kernel.shm/../panic", "kernel/shm/../panic"] {
            assert_eq!(check(&with(name)), Err(SysctlError::NotOfAPod(name.to_owned())));
        }
        let on_the_node = |name: &str| {
            let mut config = with(name);
            (config.namespaces.network, config.namespaces.ipc) = (NamespaceMode::Node, NamespaceMode::Node);
            check(&config).unwrap_err()
        };
        for name in ["net.ipv4.ip_forward", "kernel.domainname"] {
            assert_eq!(on_the_node(name), SysctlError::HostNetwork(name.to_owned()));
        }
        assert_eq!(on_the_node("kernel.sem"), SysctlError::HostIpc("kernel.sem".to_owned()));
    }

    #[test]
    fn settings_go_to_the_namespace_that_they_belong_to() {
        assert_eq!(of_ipc(&one("kernel/sem"))[0].path(), std::path::Path::new("/proc/sys/kernel/sem"));
        assert!(of_ipc(&one("net.core.somaxconn")).is_empty());
        assert_eq!(domain_name(&one("kernel.domainname")), Some("1"));
    }

    #[test]
    fn settings_of_interfaces_wait_for_them() {
        let waits = |name: &str| !of_the_network(&one(name)).1.is_empty();
        assert!(waits("net.ipv4.conf.eth0.forwarding"));
        assert!(waits("net/ipv6/neigh/eth0.1/gc_stale_time"));
        assert!(!waits("net.ipv4.conf.all.forwarding"));
        assert!(!waits("net.core.somaxconn"));
        assert_eq!(of_the_network(&one("kernel.sem")), (Vec::new(), Vec::new()));
    }
}
