//! From CRI's ContainerConfig to ours, with everything checked that can be without looking at the node.
//!
//! What a guest can never get (devices, an AppArmor profile) is refused, so that nobody believes to have it: docs/cri.md lists
//! each field.

use std::path::PathBuf;

use super::error::Error;
use super::request_sandbox;
use crate::container::{
    CapabilityRequest, ContainerConfig, ImageName, ImageVolume, MountPropagation, MountRequest, Resources, SeccompRequest,
    UserRequest, capabilities, mounts,
};
use crate::proto::runtime::v1 as cri;

/// Converts and checks.
pub fn config(config: Option<cri::ContainerConfig>) -> Result<ContainerConfig, Error> {
    let config = config.ok_or_else(|| invalid("the request has no container configuration"))?;
    let metadata = config.metadata.clone().unwrap_or_default();
    if metadata.name.is_empty() {
        return Err(invalid("the container's metadata has no name"));
    }
    if !config.devices.is_empty() || !config.cdi_devices.is_empty() {
        return Err(Error::Unimplemented("devices cannot be given to wasm guests".to_owned()));
    }
    let stop_signal = config.stop_signal;
    cri::Signal::try_from(stop_signal).map_err(|_| invalid(format!("the stop signal {stop_signal} is not known")))?;
    let linux = config.linux.unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    refuse_apparmor(&security)?;
    let seccomp = seccomp(&security)?;
    let user_namespace = request_sandbox::user_namespace(security.namespace_options.as_ref())?;
    let namespaces = request_sandbox::namespaces(security.namespace_options.clone())?;
    Ok(ContainerConfig {
        name: metadata.name,
        attempt: metadata.attempt,
        image: image(config.image)?,
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        envs: config.envs.into_iter().map(env).collect::<Result<_, _>>()?,
        mounts: config.mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        log_path: config.log_path,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        resources: linux.resources.map(resources).transpose()?,
        user: user(&security),
        readonly_rootfs: security.readonly_rootfs,
        user_namespace,
        pid: namespaces.pid,
        pid_target: namespaces.target_id,
        masked_paths: paths(security.masked_paths)?,
        seccomp,
        capabilities: capabilities(security.capabilities)?,
        privileged: security.privileged,
        readonly_paths: paths(security.readonly_paths)?,
        stop_signal,
    })
}

/// The image of a request, which must name one.
pub fn image(image: Option<cri::ImageSpec>) -> Result<ImageName, Error> {
    let image = image.filter(|image| !image.image.is_empty()).ok_or_else(|| invalid("the request names no image"))?;
    Ok(ImageName {
        image: image.image,
        user_specified: image.user_specified_image,
        annotations: image.annotations.into_iter().collect(),
        runtime_handler: image.runtime_handler,
    })
}

/// Paths that are hidden or protected: absolute, without `..`.
fn paths(paths: Vec<String>) -> Result<Vec<String>, Error> {
    let clean = |path: String| mounts::clean(&path).ok_or_else(|| invalid(format!("the path {path:?} is not absolute")));
    paths.into_iter().map(clean).collect()
}

fn env(env: cri::KeyValue) -> Result<(String, String), Error> {
    let value = String::from_utf8(env.value).map_err(|_| {
        // WASI's environment is text.
        invalid(format!("the environment variable {:?} is not UTF-8", env.key))
    })?;
    Ok((env.key, value))
}

fn mount(mount: cri::Mount) -> Result<MountRequest, Error> {
    let volume = match mount.image.clone().filter(|image| !image.image.is_empty()) {
        Some(image) => Some(ImageVolume { image: self::image(Some(image))?, sub_path: mount.image_sub_path.clone() }),
        None if mount.image_sub_path.is_empty() => None,
        None => return Err(invalid(format!("the mount at {:?} has an image_sub_path and no image", mount.container_path))),
    };
    let ids = match (mount.uid_mappings.as_slice(), mount.gid_mappings.as_slice()) {
        ([], []) => None,
        (users, groups) => Some(request_sandbox::mapping(users, groups)?),
    };
    let propagation = match mount.propagation() {
        cri::MountPropagation::PropagationPrivate => MountPropagation::Private,
        cri::MountPropagation::PropagationHostToContainer => MountPropagation::HostToContainer,
        cri::MountPropagation::PropagationBidirectional => MountPropagation::Bidirectional,
    };
    Ok(MountRequest {
        container_path: mount.container_path,
        host_path: mount.host_path,
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        selinux_relabel: mount.selinux_relabel,
        propagation,
        image: volume,
        ids,
    })
}

/// Limits, of a request to create or to update.
pub fn resources(resources: cri::LinuxContainerResources) -> Result<Resources, Error> {
    // Of these, no number below zero means anything; elsewhere it takes a limit away.
    for (field, value) in [("cpu_period", resources.cpu_period), ("cpu_shares", resources.cpu_shares)] {
        if value < 0 {
            return Err(invalid(format!("{field} is {value}, which is less than nothing")));
        }
    }
    Ok(Resources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit: resources.memory_limit_in_bytes,
        memory_swap_limit: resources.memory_swap_limit_in_bytes,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        hugepages: resources.hugepage_limits.into_iter().map(|limit| (limit.page_size, limit.limit)).collect(),
        unified: resources.unified.into_iter().collect(),
    })
}

fn user(security: &cri::LinuxContainerSecurityContext) -> UserRequest {
    UserRequest {
        uid: security.run_as_user.map(|user| user.value),
        gid: security.run_as_group.map(|group| group.value),
        name: security.run_as_username.clone(),
        groups: security.supplemental_groups.clone(),
        strict_groups: security.supplemental_groups_policy() == cri::SupplementalGroupsPolicy::Strict,
    }
}

fn seccomp(security: &cri::LinuxContainerSecurityContext) -> Result<SeccompRequest, Error> {
    use cri::security_profile::ProfileType;
    let localhost = |path: &str| match mounts::clean(path) {
        Some(path) => Ok(SeccompRequest::Localhost(PathBuf::from(path))),
        None => Err(invalid(format!("the seccomp profile {path:?} is not an absolute path on the node"))),
    };
    if let Some(profile) = &security.seccomp {
        return match profile.profile_type() {
            ProfileType::RuntimeDefault => Ok(SeccompRequest::RuntimeDefault),
            ProfileType::Unconfined => Ok(SeccompRequest::Unconfined),
            ProfileType::Localhost => localhost(&profile.localhost_ref),
        };
    }
    #[allow(deprecated, reason = "older kubelets send this field alone")]
    match security.seccomp_profile_path.as_str() {
        "" | "unconfined" => Ok(SeccompRequest::Unconfined),
        "runtime/default" | "docker/default" => Ok(SeccompRequest::RuntimeDefault),
        text => match text.strip_prefix("localhost/") {
            Some(path) => localhost(path),
            None => Err(invalid(format!("the seccomp profile {text:?} is of no known kind"))),
        },
    }
}

fn capabilities(asked: Option<cri::Capability>) -> Result<CapabilityRequest, Error> {
    let asked = asked.unwrap_or_default();
    let names = |names: Vec<String>| names.iter().map(|name| capabilities::name(name)).collect::<Result<Vec<_>, _>>();
    let added = asked.add_capabilities.into_iter().chain(asked.add_ambient_capabilities).collect();
    let of = |error: capabilities::UnknownCapability| invalid(error.to_string());
    Ok(CapabilityRequest { add: names(added).map_err(of)?, drop: names(asked.drop_capabilities).map_err(of)? })
}

fn refuse_apparmor(security: &cri::LinuxContainerSecurityContext) -> Result<(), Error> {
    let named =
        security.apparmor.as_ref().is_some_and(|profile| profile.profile_type() == cri::security_profile::ProfileType::Localhost);
    #[allow(deprecated, reason = "older kubelets send this field alone")]
    let old = security.apparmor_profile.starts_with("localhost/");
    if named || old {
        return Err(Error::Precondition("AppArmor profiles cannot be applied to wasm guests".to_owned()));
    }
    Ok(())
}

fn invalid(text: impl Into<String>) -> Error {
    Error::Invalid(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> cri::ContainerConfig {
        cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: "app".into(), attempt: 1 }),
            image: Some(cri::ImageSpec { image: "app:1".into(), user_specified_image: "app".into(), ..Default::default() }),
            ..cri::ContainerConfig::default()
        }
    }

    fn code(request: cri::ContainerConfig) -> tonic::Code {
        config(Some(request)).unwrap_err().code()
    }

    #[test]
    fn what_clients_leave_out_has_its_default() {
        let config = config(Some(example())).unwrap();
        assert_eq!((config.name.as_str(), config.attempt, config.image.user_specified.as_str()), ("app", 1, "app"));
        assert_eq!((config.resources, config.user, config.stop_signal), (None, UserRequest::default(), 0));
    }

    #[test]
    fn what_no_guest_can_have_is_refused() {
        let device = cri::Device { host_path: "/dev/fuse".into(), ..Default::default() };
        assert_eq!(code(cri::ContainerConfig { devices: vec![device], ..example() }), tonic::Code::Unimplemented);
        let part_of_nothing = cri::Mount { image_sub_path: "x".into(), ..Default::default() };
        assert_eq!(code(cri::ContainerConfig { mounts: vec![part_of_nothing], ..example() }), tonic::Code::InvalidArgument);
        let mapped = cri::Mount { uid_mappings: vec![cri::IdMapping::default()], ..Default::default() };
        assert_eq!(code(cri::ContainerConfig { mounts: vec![mapped], ..example() }), tonic::Code::InvalidArgument);
        let profile = cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::Localhost.into(),
            localhost_ref: "p".into(),
        };
        let security = cri::LinuxContainerSecurityContext { apparmor: Some(profile), ..Default::default() };
        let linux = cri::LinuxContainerConfig { security_context: Some(security), ..Default::default() };
        assert_eq!(code(cri::ContainerConfig { linux: Some(linux), ..example() }), tonic::Code::FailedPrecondition);
    }

    #[test]
    fn requests_without_sense_are_refused() {
        assert_eq!(config(None).unwrap_err().code(), tonic::Code::InvalidArgument);
        for request in [
            cri::ContainerConfig { metadata: None, ..example() },
            cri::ContainerConfig { image: None, ..example() },
            cri::ContainerConfig { stop_signal: 99, ..example() },
            cri::ContainerConfig { envs: vec![cri::KeyValue { key: "A".into(), value: vec![0xff] }], ..example() },
        ] {
            assert_eq!(code(request), tonic::Code::InvalidArgument);
        }
    }
}
