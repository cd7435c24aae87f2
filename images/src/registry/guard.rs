//! Where a foreign server may send us: a registry out there that redirects to this node, or to its cloud's metadata
//! service, is not followed. Else it would choose what is asked in the node's name.

use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses that lead to this node or its link: loopback, link-local (where 169.254.169.254 is), the unspecified
/// address, which connects to loopback, and the metadata service of EC2 by IPv6.
pub(super) fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_unspecified(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_internal(IpAddr::V4(mapped)),
            None => {
                address.is_loopback()
                    || address.is_unicast_link_local()
                    || address.is_unspecified()
                    || address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
            }
        },
    }
}

/// The address in an URL that has one, brackets off.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Whether an URL names an internal address without the help of DNS.
pub(super) fn names_internal(url: &Url) -> bool {
    literal(url).is_some_and(is_internal) || url.host_str() == Some("localhost")
}

/// Whether an URL's host is internal, its name resolved. One that does not resolve is not.
pub(super) async fn leads_internal(url: &Url) -> bool {
    if names_internal(url) {
        return true;
    }
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.into_iter().any(|address| is_internal(address.ip())),
        Err(_) => false,
    }
}

/// Resolves names as the system does, and refuses those that lead inside. Looking before the connection is made would
/// not do: the second answer may be another.
pub(super) struct Guard {
    /// Hosts of proxies: these may be on this node.
    pub(super) exempt: Vec<String>,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let exempt = self.exempt.iter().any(|host| host == name.as_str());
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(inside) = addresses.iter().find(|address| is_internal(address.ip()) && !exempt) {
                return Err(refusal(name.as_str(), inside.ip()).into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn refusal(host: &str, address: IpAddr) -> String {
    format!("it sent us to {host}, which is {address}, an address of this node or its link; that is not followed")
}

/// The refusal of an URL that names an internal address.
pub(super) fn refuse(url: &Url) -> Option<String> {
    names_internal(url).then(|| {
        let host = url.host_str().unwrap_or_default();
        format!("it sent us to {host}, an address of this node or its link; that is not followed")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_are_told_from_others() {
        for inside in ["http://127.9.9.9/", "http://169.254.169.254/x", "http://[::1]:5000/", "http://[fe80::1]/", "http://0/"] {
            assert!(names_internal(&inside.parse().unwrap()), "{inside}");
        }
        for inside in ["http://[::ffff:127.0.0.1]/", "http://localhost:1/", "http://[fd00:ec2::254]/", "http://2130706433/"] {
            assert!(names_internal(&inside.parse().unwrap()), "{inside}");
        }
        for outside in ["http://10.0.0.1/", "http://example.com/", "http://[2001:db8::1]/", "http://127.0.0.1.example/"] {
            assert!(!names_internal(&outside.parse().unwrap()), "{outside}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_resolved_unless_it_is_a_proxys() {
        let name = || "localhost".parse().unwrap();
        let refused = Guard { exempt: Vec::new() }.resolve(name()).await.err().unwrap().to_string();
        assert!(refused.contains("localhost") && refused.contains("not followed"), "{refused}");
        assert!(Guard { exempt: vec!["localhost".to_owned()] }.resolve(name()).await.is_ok());
    }
}
