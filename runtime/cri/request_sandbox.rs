//! From CRI's PodSandboxConfig to ours, with everything checked that can be without looking at the node.

use std::net::IpAddr;

use super::error::Error;
use super::request_container;
use crate::proto::runtime::v1 as cri;
use crate::sandbox::network::check_bandwidth;
use crate::sandbox::{
    DnsConfig, IdRange, NamespaceMode, Namespaces, PodResources, PortMapping, PortProtocol, SandboxConfig, SandboxName,
    UserNamespace, egress, sysctls,
};

/// Bytes of all words of a dns_config: many times what Kubernetes lets a pod have (3 servers, 32 domains of 2048 bytes).
const MAX_DNS_BYTES: usize = 64 << 10;

/// Converts and checks.
pub fn config(config: Option<cri::PodSandboxConfig>, handler: String) -> Result<SandboxConfig, Error> {
    let config = config.ok_or_else(|| Error::Invalid("the request has no sandbox configuration".to_owned()))?;
    let linux = config.linux.unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    if !config.log_directory.is_empty() && !config.log_directory.starts_with('/') {
        return Err(Error::Invalid(format!("the log directory {:?} is not an absolute path", config.log_directory)));
    }
    let config = SandboxConfig {
        name: name(config.metadata)?,
        handler,
        hostname: hostname(config.hostname)?,
        log_directory: config.log_directory,
        dns: config.dns_config.map(dns).transpose()?,
        ports: config.port_mappings.into_iter().map(port).collect::<Result<_, _>>()?,
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        cgroup_parent: linux.cgroup_parent,
        user_namespace: user_namespace(security.namespace_options.as_ref())?,
        namespaces: namespaces(security.namespace_options)?,
        sysctls: linux.sysctls.into_iter().collect(),
        privileged: security.privileged,
        resources: PodResources {
            resources: linux.resources.map(request_container::resources).transpose()?,
            overhead: linux.overhead.map(request_container::resources).transpose()?,
        },
    };
    sysctls::check(&config)?;
    check_bandwidth(&config)?;
    egress::check(egress::of_pod(&config.annotations).into_iter().flatten())
        .map_err(|error| Error::Invalid(format!("the annotation cri-wasm.dev/egress: {error}")))?;
    Ok(config)
}

fn name(metadata: Option<cri::PodSandboxMetadata>) -> Result<SandboxName, Error> {
    let metadata = metadata.ok_or_else(|| Error::Invalid("the sandbox configuration has no metadata".to_owned()))?;
    // Clients refuse a status in which one of these is empty, so such a pod could never be looked at.
    for (field, value) in [("name", &metadata.name), ("uid", &metadata.uid), ("namespace", &metadata.namespace)] {
        if value.is_empty() {
            return Err(Error::Invalid(format!("the sandbox's metadata has no {field}")));
        }
    }
    Ok(SandboxName { name: metadata.name, uid: metadata.uid, namespace: metadata.namespace, attempt: metadata.attempt })
}

fn hostname(hostname: String) -> Result<String, Error> {
    // It becomes a line of /etc/hosts and /etc/hostname.
    if hostname.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err(Error::Invalid(format!("{hostname:?} is no host name")));
    }
    Ok(hostname)
}

fn dns(dns: cri::DnsConfig) -> Result<DnsConfig, Error> {
    // An empty word says nothing.
    let said = |words: Vec<String>| words.into_iter().filter(|word| !word.is_empty()).collect();
    let dns = DnsConfig { servers: said(dns.servers), searches: said(dns.searches), options: said(dns.options) };
    // They become words of /etc/resolv.conf: one that has a space in it would be two there.
    let mut bytes = 0;
    for value in dns.servers.iter().chain(&dns.searches).chain(&dns.options) {
        if value.chars().any(|character| character.is_control() || character.is_whitespace()) {
            let shown: String = value.chars().take(256).collect();
            return Err(Error::Invalid(format!("{shown:?} in dns_config is no word of a resolv.conf")));
        }
        bytes += value.len();
    }
    if bytes > MAX_DNS_BYTES {
        return Err(Error::Invalid(format!("dns_config has {bytes} bytes, more than {MAX_DNS_BYTES}")));
    }
    Ok(dns)
}

fn port(port: cri::PortMapping) -> Result<PortMapping, Error> {
    let number = |value: i32| u16::try_from(value).map_err(|_| Error::Invalid(format!("{value} is no port")));
    if !port.host_ip.is_empty() && port.host_ip.parse::<IpAddr>().is_err() {
        return Err(Error::Invalid(format!("the host address {:?} of a port is no IP address", port.host_ip)));
    }
    let protocol = match port.protocol() {
        cri::Protocol::Tcp => PortProtocol::Tcp,
        cri::Protocol::Udp => PortProtocol::Udp,
        cri::Protocol::Sctp => PortProtocol::Sctp,
    };
    Ok(PortMapping {
        protocol,
        container_port: number(port.container_port)?,
        host_port: Some(number(port.host_port)?).filter(|port| *port != 0),
        host_ip: port.host_ip,
    })
}

pub(super) fn namespaces(options: Option<cri::NamespaceOption>) -> Result<Namespaces, Error> {
    let Some(options) = options else { return Ok(Namespaces::default()) };
    let namespaces = Namespaces {
        network: mode(options.network())?,
        pid: mode(options.pid())?,
        ipc: mode(options.ipc())?,
        target_id: options.target_id,
    };
    for (name, mode) in [("network", namespaces.network), ("ipc", namespaces.ipc)] {
        if !matches!(mode, NamespaceMode::Pod | NamespaceMode::Node) {
            return Err(Error::Invalid(format!("the {name} namespace of a pod is POD or NODE, not {mode:?}")));
        }
    }
    Ok(namespaces)
}

/// The ids of a pod with `hostUsers: false`.
pub(super) fn user_namespace(options: Option<&cri::NamespaceOption>) -> Result<Option<UserNamespace>, Error> {
    let Some(asked) = options.and_then(|options| options.userns_options.as_ref()) else { return Ok(None) };
    match asked.mode() {
        cri::NamespaceMode::Node => Ok(None),
        cri::NamespaceMode::Pod => mapping(&asked.uids, &asked.gids).map(Some),
        other => Err(Error::Invalid(format!("the user namespace of a pod is POD or NODE, not {}", other.as_str_name()))),
    }
}

/// One range of users and one of groups, as the kubelet gives them.
pub(super) fn mapping(users: &[cri::IdMapping], groups: &[cri::IdMapping]) -> Result<UserNamespace, Error> {
    Ok(UserNamespace { users: range("user", users)?, groups: range("group", groups)? })
}

fn range(what: &str, mappings: &[cri::IdMapping]) -> Result<IdRange, Error> {
    let wrong = |reason: &str| Error::Invalid(format!("the {what} ids of a user namespace: {reason}"));
    let [mapping] = mappings else {
        return Err(wrong(&format!("one mapping is needed, and there are {}", mappings.len())));
    };
    if mapping.container_id != 0 {
        return Err(wrong("the mapping must begin at id 0 in the container"));
    }
    // The last id of 32 bits is the kernel's "no id".
    match mapping.host_id.checked_add(mapping.length) {
        Some(_) if mapping.length > 0 => Ok(IdRange { first: mapping.host_id, count: mapping.length }),
        _ => Err(wrong(&format!("{} ids from {} on are no range", mapping.length, mapping.host_id))),
    }
}

fn mode(mode: cri::NamespaceMode) -> Result<NamespaceMode, Error> {
    Ok(match mode {
        cri::NamespaceMode::Pod => NamespaceMode::Pod,
        cri::NamespaceMode::Container => NamespaceMode::Container,
        cri::NamespaceMode::Node => NamespaceMode::Node,
        cri::NamespaceMode::Target => NamespaceMode::Target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> cri::PodSandboxConfig {
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: "web".into(),
                uid: "1".into(),
                namespace: "default".into(),
                attempt: 2,
            }),
            ..cri::PodSandboxConfig::default()
        }
    }

    fn with_namespaces(options: cri::NamespaceOption) -> cri::PodSandboxConfig {
        let security_context = cri::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        let linux = cri::LinuxPodSandboxConfig { security_context: Some(security_context), ..Default::default() };
        cri::PodSandboxConfig { linux: Some(linux), ..example() }
    }

    fn refused(request: cri::PodSandboxConfig) -> String {
        let error = config(Some(request), String::new()).unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        error.to_string()
    }

    #[test]
    fn what_clients_leave_out_has_its_default() {
        let config = config(Some(example()), "wasm".into()).unwrap();
        assert_eq!(config.name.to_string(), "web_1_default_2");
        assert_eq!(config.namespaces, Namespaces::default());
        assert!(!config.host_network() && config.dns.is_none() && config.cgroup_parent.is_empty());
    }

    #[test]
    fn a_pod_that_nobody_could_look_at_is_refused() {
        assert!(config(None, String::new()).is_err());
        assert!(refused(cri::PodSandboxConfig::default()).contains("metadata"));
        let mut nameless = example();
        nameless.metadata.as_mut().unwrap().uid.clear();
        assert!(refused(nameless).contains("uid"));
    }

    #[test]
    fn ports_without_a_host_port_are_kept_and_not_published() {
        let port = |container_port, host_port| cri::PortMapping { container_port, host_port, ..Default::default() };
        let request = cri::PodSandboxConfig { port_mappings: vec![port(80, 0), port(80, 12000)], ..example() };
        let ports = config(Some(request), String::new()).unwrap().ports;
        assert_eq!(ports.iter().map(|port| port.host_port).collect::<Vec<_>>(), [None, Some(12000)]);
        assert!(refused(cri::PodSandboxConfig { port_mappings: vec![port(80, 70000)], ..example() }).contains("70000"));
        let bad_ip = cri::PortMapping { host_ip: "x".into(), ..port(80, 80) };
        assert!(refused(cri::PodSandboxConfig { port_mappings: vec![bad_ip], ..example() }).contains("IP address"));
    }

    #[test]
    fn namespaces_that_cannot_be_given_are_refused() {
        let host = cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() };
        assert!(config(Some(with_namespaces(host)), String::new()).unwrap().host_network());
        let own = cri::NamespaceOption { network: cri::NamespaceMode::Container.into(), ..Default::default() };
        assert!(refused(with_namespaces(own)).contains("network"));
    }

    #[test]
    fn a_user_namespace_is_one_range_from_id_0_on() {
        let range = |container_id, host_id, length| cri::IdMapping { host_id, container_id, length };
        let asked = |mode: cri::NamespaceMode, uids: Vec<cri::IdMapping>, gids: Vec<cri::IdMapping>| {
            let users = cri::UserNamespace { mode: mode.into(), uids, gids };
            with_namespaces(cri::NamespaceOption { userns_options: Some(users), ..Default::default() })
        };
        let given = |request| config(Some(request), String::new()).unwrap().user_namespace;
        let one = || vec![range(0, 1000, 100_000)];
        let ids = IdRange { first: 1000, count: 100_000 };
        assert_eq!(given(asked(cri::NamespaceMode::Pod, one(), one())), Some(UserNamespace { users: ids, groups: ids }));
        assert_eq!(given(asked(cri::NamespaceMode::Node, Vec::new(), Vec::new())), None);
        for mode in [cri::NamespaceMode::Container, cri::NamespaceMode::Target] {
            assert!(refused(asked(mode, one(), one())).contains("POD or NODE"));
        }
        for (wrong, reason) in [
            (vec![], "there are 0"),
            (vec![range(0, 1000, 10), range(10, 5000, 10)], "there are 2"),
            (vec![range(1, 1000, 10)], "begin at id 0"),
            (vec![range(0, 1000, 0)], "no range"),
            (vec![range(0, u32::MAX, 10)], "no range"),
        ] {
            assert!(refused(asked(cri::NamespaceMode::Pod, wrong.clone(), one())).contains(reason));
            assert!(refused(asked(cri::NamespaceMode::Pod, one(), wrong)).contains("group ids"));
        }
    }

    #[test]
    fn text_that_would_break_out_of_its_file_is_refused() {
        assert!(refused(cri::PodSandboxConfig { hostname: "a\nb".into(), ..example() }).contains("host name"));
        let dns = cri::DnsConfig { servers: vec!["1.1.1.1\nnameserver 2.2.2.2".into()], ..Default::default() };
        assert!(refused(cri::PodSandboxConfig { dns_config: Some(dns), ..example() }).contains("resolv.conf"));
        for word in [" ", "a b", "a\tb", "ndots:5\rx"] {
            let dns = cri::DnsConfig { options: vec![word.into()], ..Default::default() };
            assert!(refused(cri::PodSandboxConfig { dns_config: Some(dns), ..example() }).contains("resolv.conf"), "{word:?}");
        }
        let dns = cri::DnsConfig { searches: vec!["a".repeat(1000); 100], ..Default::default() };
        assert!(refused(cri::PodSandboxConfig { dns_config: Some(dns), ..example() }).contains("bytes"));
        assert!(refused(cri::PodSandboxConfig { log_directory: "logs".into(), ..example() }).contains("log directory"));
    }
}
