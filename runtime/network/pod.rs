//! What plugins are told about a pod.
//!
//! Two ways lead to a plugin: `CNI_ARGS`, free text that every plugin sees, with
//! the keys that containerd and CRI-O use and that policy engines look for; and
//! the capability arguments, of which a plugin gets those that its
//! configuration asks for (CONVENTIONS.md of the CNI project).

use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::error::NetworkError;

/// The name of the pod's interface. Kubernetes knows only this one.
pub const INTERFACE: &str = "eth0";

/// The burst that goes with a bandwidth limit, in bits. The limit is an average
/// of the pod's; the pod API has no burst, so it is the most that the kernel's
/// token bucket holds, as other runtimes have it.
const BURST: u64 = u32::MAX as u64;

/// A pod sandbox as its network sees it.
#[derive(Clone, Debug, Default)]
pub struct PodNetwork {
    /// The id of the sandbox: the container id of CNI.
    pub sandbox_id: String,
    /// Where its network namespace is pinned. If nothing is pinned there any
    /// more, plugins are told so on `DEL`.
    pub netns: PathBuf,
    /// The pod's Kubernetes namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The ports that the node forwards. Those with host port 0 are left out.
    pub port_mappings: Vec<PortMapping>,
    /// The pod's resolver configuration, for networks that ask for it.
    pub dns: Option<Dns>,
    /// What may reach the pod, in bits per second.
    pub ingress_bps: Option<u64>,
    /// What may leave the pod, in bits per second.
    pub egress_bps: Option<u64>,
    /// The pod's cgroup, or nothing.
    pub cgroup_parent: String,
}

/// A port of the node that leads into the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The transport.
    pub protocol: Protocol,
    /// The port inside.
    pub container_port: u16,
    /// The node's port; 0 if there is none.
    pub host_port: u16,
    /// The node's address; `None` for all of them.
    pub host_ip: Option<IpAddr>,
}

/// A transport that ports belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, as in resolv.conf(5).
    pub options: Vec<String>,
}

impl PodNetwork {
    /// Refuses what would change its meaning on the way to a plugin: the id
    /// becomes part of file names, the rest a list that `;` and `=` divide.
    pub(super) fn validate(&self) -> Result<(), NetworkError> {
        let refuse = |field, value: &str| Err(NetworkError::Pod { field, value: value.to_owned() });
        if !is_cni_name(&self.sandbox_id) {
            return refuse("sandbox id", &self.sandbox_id);
        }
        for (field, value) in [("namespace", &self.namespace), ("name", &self.name), ("uid", &self.uid)] {
            if value.contains([';', '=', '\0']) {
                return refuse(field, value);
            }
        }
        Ok(())
    }

    /// `CNI_ARGS`, in the order in which it is written.
    pub(super) fn cni_args(&self) -> Vec<[String; 2]> {
        [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", &self.namespace),
            ("K8S_POD_NAME", &self.name),
            ("K8S_POD_INFRA_CONTAINER_ID", &self.sandbox_id),
            ("K8S_POD_UID", &self.uid),
        ]
        .map(|(key, value)| [key.to_owned(), value.to_owned()])
        .to_vec()
    }

    /// Everything that a plugin may ask for, by the name of the capability.
    pub(super) fn capability_args(&self) -> Map<String, Value> {
        let mut args = Map::new();
        let ports: Vec<Value> = self
            .port_mappings
            .iter()
            .filter(|mapping| mapping.host_port != 0)
            .map(|mapping| {
                let mut port = json!({
                    "hostPort": mapping.host_port,
                    "containerPort": mapping.container_port,
                    "protocol": mapping.protocol.name(),
                });
                if let (Some(ip), Some(port)) = (mapping.host_ip, port.as_object_mut()) {
                    port.insert("hostIP".to_owned(), Value::String(ip.to_string()));
                }
                port
            })
            .collect();
        if !ports.is_empty() {
            args.insert("portMappings".to_owned(), Value::Array(ports));
        }
        let mut bandwidth = Map::new();
        for (direction, rate) in [("ingress", self.ingress_bps), ("egress", self.egress_bps)] {
            if let Some(rate) = rate {
                bandwidth.insert(format!("{direction}Rate"), rate.into());
                bandwidth.insert(format!("{direction}Burst"), BURST.into());
            }
        }
        if !bandwidth.is_empty() {
            args.insert("bandwidth".to_owned(), Value::Object(bandwidth));
        }
        if let Some(dns) = self.dns.as_ref().filter(|dns| **dns != Dns::default()) {
            args.insert("dns".to_owned(), json!({ "servers": dns.servers, "searches": dns.searches, "options": dns.options }));
        }
        if !self.cgroup_parent.is_empty() {
            args.insert("cgroupPath".to_owned(), Value::String(self.cgroup_parent.clone()));
        }
        args
    }
}

/// Whether a text may be the id of a container or the name of a network: a
/// letter or digit, then those and `_`, `.`, `-` (specification, section 2).
pub(super) fn is_cni_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodNetwork {
        PodNetwork { sandbox_id: "abc".into(), namespace: "default".into(), name: "web".into(), ..PodNetwork::default() }
    }

    #[test]
    fn a_pod_that_asks_for_nothing_has_no_capability_arguments() {
        let mut pod = pod();
        pod.dns = Some(Dns::default());
        pod.port_mappings = vec![PortMapping { protocol: Protocol::Tcp, container_port: 80, host_port: 0, host_ip: None }];
        assert!(pod.capability_args().is_empty());
    }

    #[test]
    fn capability_arguments_have_the_names_and_units_of_the_convention() {
        let mut pod = pod();
        pod.port_mappings = vec![
            PortMapping { protocol: Protocol::Tcp, container_port: 80, host_port: 8080, host_ip: None },
            PortMapping { protocol: Protocol::Sctp, container_port: 9, host_port: 9, host_ip: Some("10.0.0.1".parse().unwrap()) },
        ];
        pod.egress_bps = Some(10_000_000);
        pod.cgroup_parent = "/kubepods/podx".into();
        pod.dns = Some(Dns { servers: vec!["10.96.0.10".into()], ..Dns::default() });
        assert_eq!(
            Value::Object(pod.capability_args()),
            json!({
                "portMappings": [
                    { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
                    { "hostPort": 9, "containerPort": 9, "protocol": "sctp", "hostIP": "10.0.0.1" },
                ],
                "bandwidth": { "egressRate": 10_000_000, "egressBurst": 4_294_967_295_u64 },
                "dns": { "servers": ["10.96.0.10"], "searches": [], "options": [] },
                "cgroupPath": "/kubepods/podx",
            })
        );
    }

    #[test]
    fn a_pod_that_would_smuggle_cni_arguments_is_refused() {
        let mut pod = pod();
        assert!(pod.validate().is_ok());
        pod.name = "web;K8S_POD_NAMESPACE=kube-system".into();
        assert!(matches!(pod.validate(), Err(NetworkError::Pod { field: "name", .. })));
        pod.name = "web".into();
        pod.sandbox_id = "../abc".into();
        assert!(matches!(pod.validate(), Err(NetworkError::Pod { field: "sandbox id", .. })));
    }
}
