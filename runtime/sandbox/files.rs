//! The files of `/etc` that a sandbox makes and its containers share: hosts, hostname, resolv.conf.
//!
//! They lie in the state directory, `sandboxes/<id>/`, and are mounted where a pod mounts nothing of its own. The kubelet brings
//! `/etc/hosts` itself for pods with a network of their own; other clients bring none of the three.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::metadata::{DnsConfig, SandboxMetadata};
use super::state::PodAddresses;
use crate::store::SandboxId;

/// Longest host name in bytes that the kernel takes (`__NEW_UTS_LEN`).
pub const MAX_HOSTNAME: usize = 64;

/// The node's own.
const NODE_RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where systemd-resolved writes the servers that it asks itself (systemd-resolved.service(8), /etc/resolv.conf).
const UPLINK_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// The three files: name in the directory, path in the guest.
pub const ETC: [(&str, &str); 3] = [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")];

/// A file that cannot be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct FileError {
    /// What was to be done.
    pub action: &'static str,
    /// With which path.
    pub path: PathBuf,
    /// Why it was not.
    #[source]
    pub source: io::Error,
}

/// The directory of a sandbox's files.
pub fn directory(state: &Path, id: &SandboxId) -> PathBuf {
    state.join("sandboxes").join(id.as_str())
}

/// Makes the directory and the files. Blocks on the disk for some microseconds: the state directory is a tmpfs.
///
/// `network_dns` is what CNI said about names; it counts where the pod says nothing.
pub fn create(
    state: &Path,
    metadata: &SandboxMetadata,
    addresses: Option<&PodAddresses>,
    network_dns: Option<&DnsConfig>,
) -> Result<(), FileError> {
    let directory = directory(state, &metadata.id);
    std::fs::create_dir_all(&directory).map_err(failed("make the directory", &directory))?;
    let asked = metadata.config.dns.as_ref().filter(|dns| !dns.is_empty());
    let dns = asked.or(network_dns.filter(|dns| !dns.servers.is_empty()));
    let resolv_conf = match dns {
        Some(dns) => resolv_conf(dns),
        None => node_resolv_conf(NODE_RESOLV_CONF, UPLINK_RESOLV_CONF, metadata.config.host_network())?,
    };
    let hosts = if metadata.config.host_network() { host_file("/etc/hosts")? } else { hosts(&metadata.hostname, addresses) };
    for ((name, _), content) in ETC.iter().zip([hosts, format!("{}\n", metadata.hostname), resolv_conf]) {
        let path = directory.join(name);
        std::fs::write(&path, content).map_err(failed("write", &path))?;
        if let Some(ids) = &metadata.config.user_namespace {
            // Root of the pod owns them, as that of the node does elsewhere.
            std::os::unix::fs::chown(&path, Some(ids.users.first), Some(ids.groups.first))
                .map_err(failed("give to the pod's root", &path))?;
        }
    }
    Ok(())
}

/// Removes the directory; one that is not there is fine.
pub fn remove(state: &Path, id: &SandboxId) -> Result<(), FileError> {
    let directory = directory(state, id);
    match std::fs::remove_dir_all(&directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError { action: "remove", path: directory, source }),
        _ => Ok(()),
    }
}

/// The host name that guests of a pod see. A name that the kernel would not take is cut at its first dot.
pub fn effective_hostname(asked: &str) -> String {
    if asked.is_empty() {
        return rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    if asked.len() <= MAX_HOSTNAME {
        return asked.to_owned();
    }
    let short = asked.split('.').next().unwrap_or(asked);
    short.chars().take(MAX_HOSTNAME).collect()
}

/// A file of the node; a node without one gives its pods an empty one.
fn host_file(path: &str) -> Result<String, FileError> {
    match std::fs::read_to_string(path) {
        Ok(content) => Ok(content),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(FileError { action: "read", path: PathBuf::from(path), source }),
    }
}

/// The node's resolver configuration, as far as it is of use to the pod.
///
/// A node with systemd-resolved names its stub, which listens on the node's loopback alone: a pod in a network of its own gets
/// the file with the servers behind it, as the kubelet's `resolvConf` would name.
fn node_resolv_conf(node: &str, uplink: &str, host_network: bool) -> Result<String, FileError> {
    let content = host_file(node)?;
    if host_network || !only_loopback(&content) {
        return Ok(content);
    }
    let uplink = host_file(uplink)?;
    Ok(if uplink.is_empty() { content } else { uplink })
}

/// Whether all name servers are the node's own loopback, which no pod has.
fn only_loopback(content: &str) -> bool {
    let mut servers = content.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    let loopback = |server: &str| server.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    servers.next().is_some_and(|first| loopback(first) && servers.all(loopback))
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut content = String::new();
    if !dns.searches.is_empty() {
        content.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        content.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        content.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    content
}

fn hosts(hostname: &str, addresses: Option<&PodAddresses>) -> String {
    let mut content = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if let Some(addresses) = addresses {
        for ip in std::iter::once(&addresses.ip).chain(&addresses.additional).filter(|ip| !ip.is_empty()) {
            content.push_str(&format!("{ip}\t{hostname}\n"));
        }
    }
    content
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{NamespaceMode, example};
    use super::*;

    fn read(state: &Path, name: &str) -> String {
        std::fs::read_to_string(state.join("sandboxes/s1").join(name)).unwrap()
    }

    #[test]
    fn a_pods_files_say_what_it_asked_for() {
        let state = tempfile::tempdir().unwrap();
        let mut metadata = example("s1");
        metadata.config.dns = Some(DnsConfig {
            servers: vec!["10.10.10.10".into()],
            searches: vec!["google.com".into(), "a.b".into()],
            options: vec!["ndots:8".into()],
        });
        let addresses = PodAddresses { ip: "10.1.2.3".into(), additional: vec!["fd00::3".into()] };
        create(state.path(), &metadata, Some(&addresses), None).unwrap();
        assert_eq!(read(state.path(), "resolv.conf"), "search google.com a.b\nnameserver 10.10.10.10\noptions ndots:8\n");
        assert_eq!(read(state.path(), "hostname"), "web\n");
        assert!(read(state.path(), "hosts").ends_with("10.1.2.3\tweb\nfd00::3\tweb\n"));
        remove(state.path(), &metadata.id).unwrap();
        remove(state.path(), &metadata.id).unwrap();
    }

    #[test]
    fn a_pod_that_says_nothing_gets_the_networks_name_servers_or_else_the_nodes() {
        let state = tempfile::tempdir().unwrap();
        let mut metadata = example("s1");
        let network = DnsConfig { servers: vec!["10.9.9.9".into()], ..DnsConfig::default() };
        create(state.path(), &metadata, None, Some(&network)).unwrap();
        assert_eq!(read(state.path(), "resolv.conf"), "nameserver 10.9.9.9\n");
        metadata.config.namespaces.network = NamespaceMode::Node;
        create(state.path(), &metadata, None, None).unwrap();
        assert_eq!(read(state.path(), "resolv.conf"), std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
        assert_eq!(read(state.path(), "hosts"), std::fs::read_to_string("/etc/hosts").unwrap_or_default());
    }

    #[test]
    fn a_stub_on_the_nodes_loopback_is_no_name_server_of_a_pod() {
        for (content, only) in [
            ("nameserver 127.0.0.53\noptions edns0\n", true),
            ("# comment\nsearch a\nnameserver ::1\nnameserver 127.0.0.1\n", true),
            ("nameserver 127.0.0.53\nnameserver 10.0.0.1\n", false),
            ("nameserver 10.0.0.1\n", false),
            ("nameserver\n", false),
            ("search a\n", false),
            ("", false),
        ] {
            assert_eq!(only_loopback(content), only, "{content:?}");
        }
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| place.path().join(name).display().to_string();
        std::fs::write(file("stub"), "nameserver 127.0.0.53\n").unwrap();
        std::fs::write(file("uplink"), "nameserver 10.0.0.1\n").unwrap();
        assert_eq!(node_resolv_conf(&file("stub"), &file("uplink"), false).unwrap(), "nameserver 10.0.0.1\n");
        assert_eq!(node_resolv_conf(&file("stub"), &file("uplink"), true).unwrap(), "nameserver 127.0.0.53\n");
        assert_eq!(node_resolv_conf(&file("stub"), &file("none"), false).unwrap(), "nameserver 127.0.0.53\n");
        assert_eq!(node_resolv_conf(&file("uplink"), &file("stub"), false).unwrap(), "nameserver 10.0.0.1\n");
        assert_eq!(node_resolv_conf(&file("none"), &file("uplink"), false).unwrap(), "", "a node without a file has no stub");
    }

    #[test]
    fn a_host_name_is_made_to_fit_the_kernel() {
        assert_eq!(effective_hostname("web"), "web");
        let long = format!("{}.example.com", "a".repeat(60));
        assert_eq!(effective_hostname(&long), "a".repeat(60));
        assert_eq!(effective_hostname(&"b".repeat(80)).len(), 64);
        assert!(!effective_hostname("").is_empty());
    }
}
