//! How a container that answers HTTP requests is served, and which ports a container declares.

use std::net::{Ipv6Addr, SocketAddr};

use serde::Deserialize;
use wasm_host::protocol::{HttpService, Listener};

use super::metadata::ContainerConfig;
use super::resources::Resources;
use crate::config::Handler;
use crate::sandbox::metadata::{PortProtocol, SandboxConfig};

/// Where the kubelet writes the container's ports: JSON of Kubernetes' `ContainerPort`s.
const PORTS: &str = "io.kubernetes.container.ports";

/// What the names of the kubelet's annotations of each container begin with.
const KUBELET: &str = "io.kubernetes.container.";

/// The variable of the container's environment that says where its service listens.
const ADDRESS: &str = "CRI_WASM_HTTP_ADDR";

const OPTION: &str = "the handler's http_address";

/// The port where nobody says another.
const PORT: u16 = 8080;

/// Where a service listens cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} {value:?} is no address to listen on: a port, :PORT, IPV4:PORT or [IPV6]:PORT")]
pub struct AddressError {
    place: &'static str,
    value: String,
}

/// A TCP port that a container declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredPort {
    /// As the pod's manifest has it; may be empty.
    pub name: String,
    /// In the pod's network.
    pub port: u16,
}

/// Kubernetes' `v1.ContainerPort`, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    #[serde(default)]
    name: String,
    container_port: u16,
    #[serde(default)]
    protocol: String,
}

/// The TCP ports that the container declares, in its order: by the kubelet's annotation, else those of the pod. An annotation
/// that cannot be read declares none: nobody but the kubelet has a reason to write it. The kubelet writes it for containers
/// that declare ports only; the ports of the pod are other containers' then.
pub fn declared_ports(container: &ContainerConfig, sandbox: &SandboxConfig) -> Vec<DeclaredPort> {
    let Some(annotation) = container.annotations.get(PORTS) else {
        if container.annotations.keys().any(|key| key.starts_with(KUBELET)) {
            return Vec::new();
        }
        let mapped = sandbox.ports.iter().filter(|port| port.protocol == PortProtocol::Tcp);
        return mapped.map(|port| DeclaredPort { name: String::new(), port: port.container_port }).collect();
    };
    let ports: Vec<ContainerPort> = serde_json::from_str(annotation).unwrap_or_default();
    let tcp = ports.into_iter().filter(|port| matches!(port.protocol.as_str(), "" | "TCP") && port.container_port != 0);
    tcp.map(|port| DeclaredPort { name: port.name, port: port.container_port }).collect()
}

/// Where a module that can accept connections is given sockets that listen: on each port that the container declares.
pub fn listeners(container: &ContainerConfig, sandbox: &SandboxConfig) -> Vec<Listener> {
    let any_containers = !container.annotations.contains_key(PORTS);
    let mut listeners: Vec<Listener> = Vec::new();
    for DeclaredPort { name, port } in declared_ports(container, sandbox) {
        let port = port.into();
        // One port may be mapped to several of the node.
        if listeners.iter().all(|listener| listener.port != port) {
            listeners.push(Listener { name, port, any_containers });
        }
    }
    listeners
}

/// How the service of a container is served. `env`: of its process, `NAME=VALUE`.
///
/// # Errors
/// The environment or the handler names an address that is none.
pub fn http(
    container: &ContainerConfig,
    sandbox: &SandboxConfig,
    env: &[String],
    resources: &Resources,
    handler: &Handler,
) -> Result<HttpService, AddressError> {
    let asked = env.iter().find_map(|entry| entry.strip_prefix(ADDRESS)?.strip_prefix('='));
    let address = match (asked.filter(|address| !address.is_empty()), handler.http_address.as_str()) {
        (Some(asked), _) => address("the environment variable CRI_WASM_HTTP_ADDR", asked)?,
        (None, "") => everywhere(declared_ports(container, sandbox).first().map_or(PORT, |declared| declared.port)),
        (None, option) => address(OPTION, option)?,
    };
    Ok(HttpService {
        addresses: vec![address.to_string()],
        max_requests: handler.http_max_requests,
        max_queued: handler.http_max_queued,
        max_connections: handler.http_max_connections,
        request_timeout_ms: handler.http_request_timeout_seconds.saturating_mul(1000),
        max_instance_memory: handler.http_max_instance_memory,
        requests_per_instance: handler.http_requests_per_instance,
        instance_idle_ms: handler.http_instance_idle_seconds.saturating_mul(1000),
        access_log: handler.http_access_log,
        threads: threads(resources),
    })
}

/// Whether the `http_address` of a handler can be understood; an empty one says nothing.
///
/// # Errors
/// It cannot.
pub fn check_address(option: &str) -> Result<(), AddressError> {
    if option.is_empty() { Ok(()) } else { address(OPTION, option).map(drop) }
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

fn address(place: &'static str, value: &str) -> Result<SocketAddr, AddressError> {
    let port = value.strip_prefix(':').unwrap_or(value).parse().ok().map(everywhere);
    let address = port.or_else(|| value.parse().ok()).filter(|address| address.port() != 0);
    address.ok_or_else(|| AddressError { place, value: value.to_owned() })
}

/// As many as the container may keep busy, but two, so that one may wait for a disk; 0: as the node has processors.
fn threads(resources: &Resources) -> u32 {
    if resources.cpu_quota <= 0 || resources.cpu_period <= 0 {
        return 0;
    }
    let wanted = u64::try_from(resources.cpu_quota).unwrap_or(0).div_ceil(u64::try_from(resources.cpu_period).unwrap_or(1));
    let there = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    u32::try_from(wanted).unwrap_or(u32::MAX).min(u32::try_from(there).unwrap_or(u32::MAX)).max(2)
}

#[cfg(test)]
mod tests {
    use super::super::metadata::example_config;
    use super::*;
    use crate::sandbox::metadata::{PortMapping, example};

    fn listens(annotation: Option<&str>, env: &[&str], handler: &Handler) -> Result<String, AddressError> {
        let mut container = example_config();
        container.annotations.extend(annotation.map(|ports| (PORTS.to_owned(), ports.to_owned())));
        let mut sandbox = example("s").config;
        let port = |protocol, container_port| PortMapping { protocol, container_port, host_port: None, host_ip: String::new() };
        sandbox.ports = vec![port(PortProtocol::Udp, 53), port(PortProtocol::Tcp, 7000)];
        let env: Vec<String> = env.iter().map(|entry| (*entry).to_owned()).collect();
        http(&container, &sandbox, &env, &Resources::default(), handler).map(|service| service.addresses.concat())
    }

    #[test]
    fn a_service_listens_where_the_pod_says() {
        let none = Handler::default();
        let option = Handler { http_address: "127.0.0.1:99".into(), ..Handler::default() };
        let declared = r#"[{"name":"dns","containerPort":53,"protocol":"UDP"},{"name":"web","containerPort":80}]"#;
        assert_eq!(listens(Some(declared), &[], &none).unwrap(), "[::]:80");
        assert_eq!(listens(None, &[], &none).unwrap(), "[::]:7000");
        assert_eq!(listens(Some("[]"), &[], &none).unwrap(), "[::]:8080");
        assert_eq!(listens(Some("not JSON"), &[], &none).unwrap(), "[::]:8080");
        assert_eq!(listens(Some(declared), &[], &option).unwrap(), "127.0.0.1:99");
        for (asked, wanted) in [("81", "[::]:81"), (":82", "[::]:82"), ("10.0.0.1:83", "10.0.0.1:83"), ("[::1]:84", "[::1]:84")] {
            assert_eq!(listens(Some(declared), &[&format!("CRI_WASM_HTTP_ADDR={asked}")], &option).unwrap(), wanted);
        }
    }

    #[test]
    fn sockets_listen_on_each_port_once_and_not_on_those_of_other_containers() {
        let mut container = example_config();
        let mut sandbox = example("s").config;
        let port = PortMapping { protocol: PortProtocol::Tcp, container_port: 7000, host_port: None, host_ip: String::new() };
        sandbox.ports = vec![port.clone(), PortMapping { host_port: Some(1.try_into().unwrap()), ..port }];
        let told = |container: &ContainerConfig| -> Vec<(String, u32)> {
            listeners(container, &sandbox).into_iter().map(|listener| (listener.name, listener.port)).collect()
        };
        assert_eq!(told(&container), [(String::new(), 7000)]);
        container.annotations.insert("io.kubernetes.container.restartCount".into(), "0".into());
        assert_eq!(told(&container), []);
        let declared = r#"[{"name":"web","containerPort":80},{"name":"admin","containerPort":81,"protocol":"TCP"}]"#;
        container.annotations.insert(PORTS.into(), declared.into());
        assert_eq!(told(&container), [("web".to_owned(), 80), ("admin".to_owned(), 81)]);
    }

    #[test]
    fn an_address_that_is_none_is_named() {
        for asked in ["web", "0", "70000", "localhost:80", "::1:80"] {
            let refused = listens(None, &[&format!("CRI_WASM_HTTP_ADDR={asked}")], &Handler::default()).unwrap_err().to_string();
            assert!(refused.contains(&format!("{asked:?}")) && refused.contains("CRI_WASM_HTTP_ADDR"), "{refused}");
        }
    }

    #[test]
    fn threads_are_as_many_as_the_quota_keeps_busy() {
        let quota = |cpu_quota| threads(&Resources { cpu_quota, cpu_period: 100_000, ..Resources::default() });
        assert_eq!((quota(0), quota(-1), quota(10_000), quota(100_000)), (0, 0, 2, 2));
        assert!(quota(i64::MAX) >= 2);
    }
}
