//! A port on the forwarder's command line: `tcp,*,8080,80`, transport, the node's address or `*`, its port, the pod's port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::super::pod::{PortMapping, Protocol};

/// One port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// UDP, not TCP.
    pub udp: bool,
    /// The node's address; `None`: each that it has.
    pub host_ip: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
}

/// A text that is no mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no port mapping; it looks like tcp,*,8080,80")]
pub struct MappingError(String);

impl From<&PortMapping> for Mapping {
    /// SCTP is refused before.
    fn from(port: &PortMapping) -> Self {
        Self {
            udp: port.protocol == Protocol::Udp,
            host_ip: port.host_ip,
            host_port: port.host_port,
            container_port: port.container_port,
        }
    }
}

impl Mapping {
    /// Where to listen. Of the addresses for all, IPv6's is dispensable: a node may be without.
    pub fn listens(&self) -> Vec<SocketAddr> {
        let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let addresses = self.host_ip.map_or_else(|| all.to_vec(), |address| vec![address]);
        addresses.into_iter().map(|address| SocketAddr::new(address, self.host_port)).collect()
    }

    /// The transport's name.
    pub fn protocol(&self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }

    /// Where to connect, in this order: the pod's addresses, those of the client's family first.
    pub fn targets(&self, pod: &[IpAddr], client: IpAddr) -> Vec<SocketAddr> {
        let same = |address: &IpAddr| address.is_ipv4() == client.is_ipv4();
        let (first, then): (Vec<IpAddr>, Vec<IpAddr>) = pod.iter().partition(|address| same(address));
        first.into_iter().chain(then).map(|address| SocketAddr::new(address, self.container_port)).collect()
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.host_ip.map_or_else(|| "*".to_owned(), |address| address.to_string());
        write!(formatter, "{},{address},{},{}", self.protocol(), self.host_port, self.container_port)
    }
}

impl FromStr for Mapping {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Self, MappingError> {
        let read = || {
            let mut words = text.split(',');
            let udp = match words.next()? {
                "tcp" => false,
                "udp" => true,
                _ => return None,
            };
            let host_ip = match words.next()? {
                "*" => None,
                address => Some(address.parse().ok()?),
            };
            let port = |word: Option<&str>| word?.parse::<u16>().ok().filter(|port| *port != 0);
            let mapping = Self { udp, host_ip, host_port: port(words.next())?, container_port: port(words.next())? };
            words.next().is_none().then_some(mapping)
        };
        read().ok_or_else(|| MappingError(text.to_owned()))
    }
}
