//! From our containers to CRI's messages.

use super::answer_sandbox::id_mapping;
use crate::container::{
    Container, ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, GuestUser, ImageName, MountPropagation,
    MountRequest, Resources, mounts, signals,
};
use crate::proto::runtime::v1 as cri;

/// How a state is told.
pub fn container_state(state: ContainerState) -> cri::ContainerState {
    match state {
        ContainerState::Created | ContainerState::Starting => cri::ContainerState::ContainerCreated,
        ContainerState::Running => cri::ContainerState::ContainerRunning,
        ContainerState::Exited | ContainerState::Removing => cri::ContainerState::ContainerExited,
    }
}

/// An item of ListContainers.
pub fn item(container: &Container) -> cri::Container {
    let metadata = container.metadata();
    let config = &metadata.config;
    cri::Container {
        id: metadata.id.to_string(),
        pod_sandbox_id: metadata.sandbox.to_string(),
        metadata: Some(name(config)),
        image: Some(image(&config.image, config.image.image.clone())),
        // Kubelets before 1.29 look here for the images that are in use.
        image_ref: metadata.image_id.clone(),
        image_id: metadata.image_id.clone(),
        state: container_state(container.state()).into(),
        created_at: metadata.created_at,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
    }
}

/// The status of ContainerStatus.
pub fn status(container: &Container) -> cri::ContainerStatus {
    status_as(container, container.status())
}

/// The status of ContainerStatus, for what the container was at some time.
pub fn status_as(container: &Container, status: ContainerStatus) -> cri::ContainerStatus {
    let metadata = container.metadata();
    let config = &metadata.config;
    let started_at = status.started_at();
    let (exit_code, reason, message, finished_at) =
        status.exit.map(|exit| (exit.code, exit.reason, exit.message, exit.finished_at)).unwrap_or_default();
    cri::ContainerStatus {
        id: metadata.id.to_string(),
        metadata: Some(name(config)),
        state: container_state(status.state).into(),
        created_at: metadata.created_at,
        started_at,
        finished_at,
        exit_code,
        image: Some(image(&config.image, metadata.image_name.clone())),
        image_ref: metadata.image_ref.clone(),
        image_id: metadata.image_id.clone(),
        reason,
        message,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        mounts: config.mounts.iter().map(|request| mount(request, metadata)).collect(),
        log_path: metadata.log_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        resources: status.resources.as_ref().or(config.resources.as_ref()).map(resources),
        user: Some(cri::ContainerUser { linux: Some(user(&metadata.process.user)) }),
        stop_signal: stop_signal(metadata),
    }
}

fn name(config: &ContainerConfig) -> cri::ContainerMetadata {
    cri::ContainerMetadata { name: config.name.clone(), attempt: config.attempt }
}

fn image(name: &ImageName, image: String) -> cri::ImageSpec {
    cri::ImageSpec {
        image,
        annotations: name.annotations.clone().into_iter().collect(),
        user_specified_image: name.user_specified.clone(),
        runtime_handler: name.runtime_handler.clone(),
        image_ref: String::new(),
    }
}

/// The image that is mounted, by its id.
fn mounted_image(mount: &MountRequest, metadata: &ContainerMetadata) -> String {
    let place = mounts::clean(&mount.container_path);
    let resolved = metadata.mounts.iter().filter(|resolved| Some(&resolved.container_path) == place.as_ref());
    resolved.filter_map(|resolved| Some(resolved.image.as_ref()?.image_id.clone())).next().unwrap_or_default()
}

/// Exactly what was asked for: the kubelet finds its termination log by it.
fn mount(mount: &MountRequest, metadata: &ContainerMetadata) -> cri::Mount {
    let propagation = match mount.propagation {
        MountPropagation::Private => cri::MountPropagation::PropagationPrivate,
        MountPropagation::HostToContainer => cri::MountPropagation::PropagationHostToContainer,
        MountPropagation::Bidirectional => cri::MountPropagation::PropagationBidirectional,
    };
    cri::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation.into(),
        recursive_read_only: mount.recursive_readonly,
        image: mount.image.as_ref().map(|volume| {
            let id = mounted_image(mount, metadata);
            cri::ImageSpec { image_ref: id, ..image(&volume.image, volume.image.image.clone()) }
        }),
        uid_mappings: mount.ids.map(|ids| id_mapping(ids.users)).into_iter().collect(),
        gid_mappings: mount.ids.map(|ids| id_mapping(ids.groups)).into_iter().collect(),
        image_sub_path: mount.image.as_ref().map(|volume| volume.sub_path.clone()).unwrap_or_default(),
    }
}

fn resources(resources: &Resources) -> cri::ContainerResources {
    let linux = cri::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit,
        memory_swap_limit_in_bytes: resources.memory_swap_limit,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepages
            .iter()
            .map(|(page_size, limit)| cri::HugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        unified: resources.unified.clone().into_iter().collect(),
    };
    cri::ContainerResources { linux: Some(linux), windows: None }
}

fn user(user: &GuestUser) -> cri::LinuxContainerUser {
    cri::LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: user.groups.iter().map(|group| i64::from(*group)).collect(),
    }
}

/// The one that StopContainer sends: the request's, else the image's, else SIGTERM.
fn stop_signal(metadata: &ContainerMetadata) -> i32 {
    if metadata.config.stop_signal != 0 {
        return metadata.config.stop_signal;
    }
    signals::cri_name(metadata.stop_signal).and_then(|name| cri::Signal::from_str_name(&name)).map_or(0, i32::from)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::container::metadata::example;
    use crate::container::{ContainerEvent, ContainerRecord, ContainerStatus, Exit};
    use crate::store::Store;

    fn container(metadata: ContainerMetadata) -> (Arc<Container>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("live"), &directory.path().join("mirror"), "boot").unwrap();
        let record = ContainerRecord { metadata, status: ContainerStatus::created() };
        (Container::restore(record, Vec::new(), Arc::new(store)), directory)
    }

    #[test]
    fn a_status_echoes_the_request_and_tells_the_end() {
        let mut metadata = example("c1", "s1");
        metadata.config.annotations.insert("io.kubernetes.container.hash".into(), "abc".into());
        metadata.config.mounts.push(MountRequest {
            ids: None,
            image: None,
            container_path: "/v/".into(),
            host_path: "/link".into(),
            readonly: true,
            recursive_readonly: false,
            selinux_relabel: true,
            propagation: MountPropagation::HostToContainer,
        });
        let (container, _directory) = container(metadata);
        let created = status(&container);
        assert_eq!(created.state(), cri::ContainerState::ContainerCreated);
        assert_eq!((created.started_at, created.finished_at, created.created_at), (0, 0, 9));
        assert_eq!((created.mounts[0].container_path.as_str(), created.mounts[0].host_path.as_str()), ("/v/", "/link"));
        assert_eq!(created.annotations["io.kubernetes.container.hash"], "abc");
        assert_eq!(created.stop_signal(), cri::Signal::Sigterm);
        assert!(created.log_path.starts_with('/'));

        let events = crate::events::Events::default();
        container.apply(&events.turn(), ContainerEvent::Start).unwrap();
        let exit = Exit { code: 3, reason: "Error".into(), message: "m".into(), started_at: 10, finished_at: 20 };
        container.apply(&events.turn(), ContainerEvent::Ended(exit)).unwrap();
        let exited = status(&container);
        assert_eq!(exited.state(), cri::ContainerState::ContainerExited);
        assert_eq!((exited.exit_code, exited.reason.as_str(), exited.message.as_str()), (3, "Error", "m"));
        assert_eq!((exited.started_at, exited.finished_at), (10, 20));
        let item = item(&container);
        assert_eq!((item.image_id.as_str(), item.image_ref.as_str()), ("sha256:1", "sha256:1"));
    }
}
