//! Where a guest may connect to, if its handler or its pod says so.
//!
//! Each list that there is must have the target. An entry is an address, a network (`10.0.0.0/8`), a name or all names of a domain
//! (`*.example.com`), each with or without a port. Names are for HTTP, where the guest says which one it means; a socket knows
//! addresses alone. This narrows what the network lets through, and widens nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::protocol::Egress;

/// What all the lists allow. Copies share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed(Arc<[List]>);

#[derive(Debug)]
struct List(Vec<Entry>);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    target: Target,
    /// `None`: every one.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Network(IpNet),
    Name(String),
    /// With the dot before it.
    Domain(String),
}

impl Allowed {
    /// Entries that cannot be read allow nothing; the daemon refuses them before.
    pub(crate) fn of(lists: &[Egress]) -> Self {
        let read = |list: &Egress| List(list.allowed.iter().filter_map(|entry| Entry::read(entry)).collect());
        Allowed(lists.iter().map(read).collect())
    }

    /// Nothing narrows what the guest may connect to.
    pub(crate) fn everything(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn address(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.0.iter().all(|list| list.0.iter().any(|entry| entry.has_address(ip, address.port())))
    }

    /// The name is allowed by itself, whatever its addresses are.
    pub(crate) fn name(&self, name: &str, port: u16) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.0.iter().all(|list| list.0.iter().any(|entry| entry.has_name(&name, port)))
    }
}

impl Entry {
    fn read(text: &str) -> Option<Entry> {
        if let Some(network) = network(text) {
            return Some(Entry { target: Target::Network(network), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let target = match (network(bare), bare.strip_prefix('*')) {
            (Some(network), _) => Target::Network(network),
            (None, Some(domain)) if is_name(domain.strip_prefix('.')?) => Target::Domain(domain.to_ascii_lowercase()),
            (None, None) if is_name(bare) => Target::Name(bare.to_ascii_lowercase()),
            _ => return None,
        };
        Some(Entry { target, port })
    }

    fn has_address(&self, ip: IpAddr, port: u16) -> bool {
        matches!(&self.target, Target::Network(network) if network.contains(&ip)) && self.port.is_none_or(|only| only == port)
    }

    fn has_name(&self, name: &str, port: u16) -> bool {
        let is_target = match &self.target {
            Target::Name(target) => target == name,
            Target::Domain(domain) => name.ends_with(domain.as_str()),
            Target::Network(_) => false,
        };
        is_target && self.port.is_none_or(|only| only == port)
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with('.')
}

/// Whether an entry of a list can be read.
pub fn is_entry(text: &str) -> bool {
    Entry::read(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(lists: &[&[&str]]) -> Allowed {
        let list = |entries: &&[&str]| Egress { allowed: entries.iter().map(|entry| (*entry).to_owned()).collect() };
        Allowed::of(&lists.iter().map(list).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_are_in_networks_and_at_ports() {
        let allowed = allowed(&[&["10.0.0.0/8", "192.0.2.1:443", "[2001:db8::1]:80", "2001:db8:1::/48"]]);
        for (address, wanted) in [
            ("10.1.2.3:9", true),
            ("[::ffff:10.1.2.3]:9", true),
            ("11.0.0.1:9", false),
            ("192.0.2.1:443", true),
            ("192.0.2.1:80", false),
            ("[2001:db8::1]:80", true),
            ("[2001:db8::1]:81", false),
            ("[2001:db8:1::7]:1", true),
        ] {
            assert_eq!(allowed.address(address.parse().unwrap()), wanted, "{address}");
        }
        assert!(!allowed.name("10.0.0.1", 80));
    }

    #[test]
    fn names_are_whole_or_of_a_domain() {
        let allowed = allowed(&[&["api.example.com", "*.svc.cluster.local:80"]]);
        for (name, port, wanted) in [
            ("api.example.com", 1, true),
            ("API.example.com.", 1, true),
            ("xapi.example.com", 1, false),
            ("web.default.svc.cluster.local", 80, true),
            ("web.default.svc.cluster.local", 81, false),
            ("svc.cluster.local", 80, false),
        ] {
            assert_eq!(allowed.name(name, port), wanted, "{name}");
        }
    }

    #[test]
    fn every_list_has_to_have_the_target() {
        let both = allowed(&[&["10.0.0.0/8"], &["10.1.0.0/16"]]);
        assert!(both.address("10.1.0.1:1".parse().unwrap()) && !both.address("10.2.0.1:1".parse().unwrap()));
        assert!(!allowed(&[&[]]).address("10.1.0.1:1".parse().unwrap()));
        assert!(allowed(&[]).everything() && allowed(&[]).name("anything", 1));
    }

    #[test]
    fn what_is_no_entry_is_told() {
        for entry in ["", "*", "*example.com", "a b", "10.0.0.0/33", "name:port", "http://name", "name/path", ".name"] {
            assert!(!is_entry(entry), "{entry:?}");
        }
    }
}
