//! What is known of a sandbox from its creation on and never changes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cgroup::Limits;
use crate::container::Resources;
use crate::store::SandboxId;

/// Who a sandbox is for its client. Unique among the sandboxes that are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxName {
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Which try this is; the kubelet counts it up when it replaces a sandbox.
    pub attempt: u32,
}

impl SandboxName {
    /// The name without its attempt: what all sandboxes of one pod have in common.
    pub fn pod(&self) -> String {
        format!("{}_{}_{}", self.name, self.uid, self.namespace)
    }
}

impl fmt::Display for SandboxName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}_{}_{}", self.name, self.uid, self.namespace, self.attempt)
    }
}

/// CRI's NamespaceMode: with whom a namespace is shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// With the pod's other containers.
    #[default]
    Pod,
    /// With nobody.
    Container,
    /// With the node.
    Node,
    /// With another container.
    Target,
}

/// The namespaces that a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Pod or Node.
    pub network: NamespaceMode,
    /// Recorded; containers have a mode of their own.
    pub pid: NamespaceMode,
    /// Pod or Node.
    pub ipc: NamespaceMode,
    /// The container that a mode Target names.
    pub target_id: String,
}

impl Default for Namespaces {
    /// CRI's zero values: everything shared within the pod.
    fn default() -> Self {
        Self { network: NamespaceMode::Pod, pid: NamespaceMode::Pod, ipc: NamespaceMode::Pod, target_id: String::new() }
    }
}

/// A range of ids of the node that stands for the ids from 0 on in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The node's id that is 0 in the pod.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// The ids of a pod's guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// User ids.
    pub users: IdRange,
    /// Group ids.
    pub groups: IdRange,
}

/// The contents of a resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Addresses of the name servers.
    pub servers: Vec<String>,
    /// Domains that short names are tried in.
    pub searches: Vec<String>,
    /// Options such as `ndots:5`.
    pub options: Vec<String>,
}

impl DnsConfig {
    /// Nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.searches.is_empty() && self.options.is_empty()
    }
}

/// Transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the pod. The kubelet lists every container port; one without a host port is not published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport.
    pub protocol: PortProtocol,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the node; `None`: not published.
    pub host_port: Option<u16>,
    /// Address on the node; empty: every one.
    pub host_ip: String,
}

/// What a pod may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodResources {
    /// All of its containers together; `None`: never said.
    pub resources: Option<Resources>,
    /// What it costs beside them; `None`: never said.
    pub overhead: Option<Resources>,
}

impl PodResources {
    /// These, changed by an update: what it does not give stays.
    pub fn updated(&self, update: &PodResources) -> PodResources {
        let changed = |old: &Option<Resources>, new: &Option<Resources>| match (old, new) {
            (Some(old), Some(new)) => Some(old.updated(new)),
            (old, new) => new.clone().or_else(|| old.clone()),
        };
        PodResources {
            resources: changed(&self.resources, &update.resources),
            overhead: changed(&self.overhead, &update.overhead),
        }
    }

    /// The limits of a group that is the pod's alone.
    pub fn limits(&self) -> Limits {
        let (resources, overhead) = (self.resources.clone().unwrap_or_default(), self.overhead.clone().unwrap_or_default());
        resources.with_overhead(&overhead).limits()
    }
}

/// What the client asked for; two equal requests have equal configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Who it is.
    pub name: SandboxName,
    /// Its handler; empty: the default one.
    pub handler: String,
    /// Host name; empty: the node's.
    pub hostname: String,
    /// Directory of the containers' logs; empty: no logs.
    pub log_directory: String,
    /// Name service; `None`: the node's.
    pub dns: Option<DnsConfig>,
    /// Its ports.
    pub ports: Vec<PortMapping>,
    /// Labels, echoed unchanged.
    pub labels: BTreeMap<String, String>,
    /// Annotations, echoed unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Parent of its cgroups; empty: one of our own.
    pub cgroup_parent: String,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// `None`: the node's ids.
    #[serde(default)]
    pub user_namespace: Option<UserNamespace>,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Asked for by the pod; recorded, no guest gets privileges from it.
    pub privileged: bool,
    /// What it may use.
    #[serde(default)]
    pub resources: PodResources,
}

impl SandboxConfig {
    /// The pod uses the node's network.
    pub fn host_network(&self) -> bool {
        self.namespaces.network == NamespaceMode::Node
    }
}

/// What never changes of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxMetadata {
    /// Its id.
    pub id: SandboxId,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// What the client asked for.
    pub config: SandboxConfig,
    /// The group that its containers' groups are made in.
    pub cgroup_parent: String,
    /// That group is ours alone: made with the sandbox and removed with it.
    pub cgroup_owned: bool,
    /// The host name that its guests see.
    pub hostname: String,
}

#[cfg(test)]
pub(crate) fn example(id: &str) -> SandboxMetadata {
    SandboxMetadata {
        id: SandboxId::from(id.to_owned()),
        created_at: 7,
        config: SandboxConfig {
            name: SandboxName { name: "web".into(), uid: "u1".into(), namespace: "default".into(), attempt: 2 },
            handler: String::new(),
            hostname: "web".into(),
            log_directory: "/var/log/pods/web".into(),
            dns: None,
            ports: Vec::new(),
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            annotations: BTreeMap::new(),
            cgroup_parent: String::new(),
            namespaces: Namespaces::default(),
            user_namespace: None,
            sysctls: BTreeMap::new(),
            privileged: false,
            resources: PodResources::default(),
        },
        cgroup_parent: format!("/cri-wasm/{id}"),
        cgroup_owned: true,
        hostname: "web".into(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_is_made_of_all_four_parts() {
        assert_eq!(super::example("1").config.name.to_string(), "web_u1_default_2");
    }
}
