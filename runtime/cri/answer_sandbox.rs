//! From our sandboxes to CRI's messages.

use crate::proto::runtime::v1 as cri;
use crate::sandbox::{IdRange, NamespaceMode, Sandbox, SandboxConfig, SandboxName, SandboxState, SandboxStatus};

/// How a state is told: only Ready is ready.
pub fn sandbox_state(state: SandboxState) -> cri::PodSandboxState {
    match state {
        SandboxState::Ready => cri::PodSandboxState::SandboxReady,
        SandboxState::Creating | SandboxState::NotReady | SandboxState::Removing => cri::PodSandboxState::SandboxNotready,
    }
}

/// An item of ListPodSandbox.
pub fn item(sandbox: &Sandbox) -> cri::PodSandbox {
    let metadata = sandbox.metadata();
    let config = &metadata.config;
    cri::PodSandbox {
        id: metadata.id.to_string(),
        metadata: Some(name(&config.name)),
        state: sandbox_state(sandbox.state()).into(),
        created_at: metadata.created_at,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        runtime_handler: config.handler.clone(),
    }
}

/// The status of PodSandboxStatus, for what the sandbox is or was at some time.
pub fn status(sandbox: &Sandbox, status: SandboxStatus) -> cri::PodSandboxStatus {
    let metadata = sandbox.metadata();
    let config = &metadata.config;
    // A pod on the node's network has an empty one, as containerd answers.
    let network = status.addresses.map_or_else(cri::PodSandboxNetworkStatus::default, |addresses| cri::PodSandboxNetworkStatus {
        ip: addresses.ip,
        additional_ips: addresses.additional.into_iter().map(|ip| cri::PodIp { ip }).collect(),
    });
    cri::PodSandboxStatus {
        id: metadata.id.to_string(),
        metadata: Some(name(&config.name)),
        state: sandbox_state(status.state).into(),
        created_at: metadata.created_at,
        network: Some(network),
        linux: Some(cri::LinuxPodSandboxStatus { namespaces: Some(cri::Namespace { options: Some(namespaces(config)) }) }),
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        runtime_handler: config.handler.clone(),
    }
}

/// Who a sandbox is for its client.
pub fn name(name: &SandboxName) -> cri::PodSandboxMetadata {
    cri::PodSandboxMetadata {
        name: name.name.clone(),
        uid: name.uid.clone(),
        namespace: name.namespace.clone(),
        attempt: name.attempt,
    }
}

/// A range of ids, as the CRI writes it.
pub(super) fn id_mapping(range: IdRange) -> cri::IdMapping {
    cri::IdMapping { host_id: range.first, container_id: 0, length: range.count }
}

fn namespaces(config: &SandboxConfig) -> cri::NamespaceOption {
    let namespaces = &config.namespaces;
    let mode = |mode: NamespaceMode| match mode {
        NamespaceMode::Pod => cri::NamespaceMode::Pod,
        NamespaceMode::Container => cri::NamespaceMode::Container,
        NamespaceMode::Node => cri::NamespaceMode::Node,
        NamespaceMode::Target => cri::NamespaceMode::Target,
    };
    cri::NamespaceOption {
        network: mode(namespaces.network).into(),
        pid: mode(namespaces.pid).into(),
        ipc: mode(namespaces.ipc).into(),
        target_id: namespaces.target_id.clone(),
        userns_options: config.user_namespace.map(|ids| cri::UserNamespace {
            mode: cri::NamespaceMode::Pod.into(),
            uids: vec![id_mapping(ids.users)],
            gids: vec![id_mapping(ids.groups)],
        }),
    }
}
