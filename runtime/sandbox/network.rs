//! A sandbox's network: its namespace, pinned in the state directory, and what CNI puts into it.

use std::net::IpAddr;
use std::path::PathBuf;

use super::metadata::{DnsConfig, PortProtocol, SandboxConfig, SandboxMetadata};
use super::state::PodAddresses;
use crate::network::bandwidth::{self, BandwidthError};
use crate::network::{self, PodNetwork, netns};
use crate::state::Runtime;

/// Where the namespace of a sandbox is pinned.
pub fn namespace(runtime: &Runtime, metadata: &SandboxMetadata) -> PathBuf {
    runtime.config.netns_dir().join(netns::name(metadata.id.as_str()))
}

/// What CNI gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connected {
    /// The pod's addresses.
    pub addresses: PodAddresses,
    /// The network's own name servers.
    pub dns: DnsConfig,
}

/// Refuses limits that cannot be read, before anything is made.
pub fn check_bandwidth(config: &SandboxConfig) -> Result<(), BandwidthError> {
    limit(config, bandwidth::INGRESS_ANNOTATION)?;
    limit(config, bandwidth::EGRESS_ANNOTATION)?;
    Ok(())
}

fn limit(config: &SandboxConfig, annotation: &str) -> Result<Option<u64>, BandwidthError> {
    config.annotations.get(annotation).map(|text| bandwidth::parse(text)).transpose()
}

/// What plugins are told about the sandbox.
pub fn describe(runtime: &Runtime, metadata: &SandboxMetadata) -> PodNetwork {
    let config = &metadata.config;
    PodNetwork {
        sandbox_id: metadata.id.to_string(),
        netns: namespace(runtime, metadata),
        namespace: config.name.namespace.clone(),
        name: config.name.name.clone(),
        uid: config.name.uid.clone(),
        port_mappings: config.ports.iter().filter_map(port_mapping).collect(),
        dns: config.dns.as_ref().map(|dns| network::Dns {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        ingress_bps: limit(config, bandwidth::INGRESS_ANNOTATION).ok().flatten(),
        egress_bps: limit(config, bandwidth::EGRESS_ANNOTATION).ok().flatten(),
        cgroup_parent: config.cgroup_parent.clone(),
    }
}

/// Reads what CNI gave.
pub fn connected(attachment: &network::Attachment) -> Connected {
    let mut ips = attachment.ips.iter().map(IpAddr::to_string);
    Connected {
        addresses: PodAddresses { ip: ips.next().unwrap_or_default(), additional: ips.collect() },
        dns: DnsConfig { servers: attachment.nameservers.clone(), ..DnsConfig::default() },
    }
}

pub(super) fn port_mapping(port: &super::PortMapping) -> Option<network::PortMapping> {
    Some(network::PortMapping {
        protocol: match port.protocol {
            PortProtocol::Tcp => network::Protocol::Tcp,
            PortProtocol::Udp => network::Protocol::Udp,
            PortProtocol::Sctp => network::Protocol::Sctp,
        },
        container_port: port.container_port,
        host_port: port.host_port?,
        // It was checked when the request came in; empty means every address.
        host_ip: port.host_ip.parse().ok(),
    })
}
