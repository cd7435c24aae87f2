//! Kernel settings that a pod asks for.
//!
//! Settings of the network belong to the pod's network namespace and are written there. Settings of System V IPC and of message
//! queues belong to an IPC namespace that no wasm guest can reach: they are accepted and have no effect. Anything else would
//! change the node and is refused.

use std::collections::BTreeMap;

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// It belongs to the node.
    #[error("the kernel setting {0:?} does not belong to a pod")]
    NotOfAPod(String),
    /// It belongs to the network, and the pod uses the node's.
    #[error("the kernel setting {0:?} cannot be set for a pod on the node's network")]
    HostNetwork(String),
}

/// Refuses what cannot be set for a pod, before anything is made for it.
pub fn check(sysctls: &BTreeMap<String, String>, host_network: bool) -> Result<(), SysctlError> {
    for name in sysctls.keys() {
        if is_network(name) {
            if host_network {
                return Err(SysctlError::HostNetwork(name.clone()));
            }
        } else if !is_ipc(name) {
            return Err(SysctlError::NotOfAPod(name.clone()));
        }
    }
    Ok(())
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

fn is_ipc(name: &str) -> bool {
    let name = name.replace('/', ".");
    name.starts_with("kernel.shm") || name.starts_with("kernel.msg") || name == "kernel.sem" || name.starts_with("fs.mqueue.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), "1".to_owned())])
    }

    #[test]
    fn settings_of_a_pods_namespaces_are_accepted_and_the_nodes_refused() {
        for name in ["net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies", "kernel.shm_rmid_forced", "fs.mqueue.msg_max"] {
            check(&one(name), false).unwrap();
        }
        for name in ["kernel.panic", "vm.swappiness", "network", "fs.mqueue"] {
            assert_eq!(check(&one(name), false), Err(SysctlError::NotOfAPod(name.to_owned())));
        }
        assert!(matches!(check(&one("net.ipv4.ip_forward"), true), Err(SysctlError::HostNetwork(_))));
        check(&one("kernel.sem"), true).unwrap();
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
