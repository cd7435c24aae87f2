//! What is known of a container from its creation on and never changes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Resources;
use super::bind::Propagation;
use super::seccomp::SeccompProgram;
use crate::sandbox::{NamespaceMode, UserNamespace};
use crate::store::{ContainerId, SandboxId};

/// CRI's MountPropagation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPropagation {
    /// Mounts made later stay on their side.
    #[default]
    Private,
    /// Those of the host appear in the container.
    HostToContainer,
    /// And the other way round.
    Bidirectional,
}

impl From<MountPropagation> for Propagation {
    fn from(propagation: MountPropagation) -> Self {
        match propagation {
            MountPropagation::Private => Self::Private,
            MountPropagation::HostToContainer => Self::HostToContainer,
            MountPropagation::Bidirectional => Self::Bidirectional,
        }
    }
}

/// A mount as the client asked for it; ContainerStatus tells exactly this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Path in the container, absolute.
    pub container_path: String,
    /// Path on the node; symbolic links are followed.
    pub host_path: String,
    /// Read-only for this mount, not for what is mounted below it on the node.
    pub readonly: bool,
    /// Read-only all the way down.
    pub recursive_readonly: bool,
    /// Recorded and without effect: guests have no SELinux labels.
    pub selinux_relabel: bool,
    /// What becomes of later mounts.
    pub propagation: MountPropagation,
    /// In the place of `host_path`: files of an image.
    #[serde(default)]
    pub image: Option<ImageVolume>,
    /// The ids on the disk are those that the pod sees, not those of the node.
    #[serde(default)]
    pub ids: Option<UserNamespace>,
}

/// A part of an image as a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVolume {
    /// As the client named it.
    pub image: ImageName,
    /// A path in it, relative; empty: all of it.
    pub sub_path: String,
}

/// Who a guest runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
}

/// How the client named the image; ContainerStatus and lists tell exactly this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageName {
    /// A reference or an id.
    pub image: String,
    /// What the pod's manifest says.
    pub user_specified: String,
    /// Annotations of the ImageSpec.
    pub annotations: BTreeMap<String, String>,
    /// The handler that it was pulled for.
    pub runtime_handler: String,
}

/// Whom the client asked the guest to run as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRequest {
    /// `run_as_user`.
    pub uid: Option<i64>,
    /// `run_as_group`.
    pub gid: Option<i64>,
    /// `run_as_username`; empty: not given.
    pub name: String,
    /// `supplemental_groups`.
    pub groups: Vec<i64>,
    /// Policy Strict: the groups of the image's /etc/group do not count.
    pub strict_groups: bool,
}

/// The seccomp profile that the client asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompRequest {
    /// None. CRI: so it is where nothing is said.
    #[default]
    Unconfined,
    /// The runtime's.
    RuntimeDefault,
    /// A file on the node.
    Localhost(PathBuf),
}

/// Changes to the capabilities; names in capitals, without `CAP_`, or `ALL`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityRequest {
    /// `add_capabilities` and `add_ambient_capabilities`.
    pub add: Vec<String>,
    /// `drop_capabilities`.
    pub drop: Vec<String>,
}

/// What the client asked for; two equal requests have equal configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Name within the pod.
    pub name: String,
    /// Which try this is.
    pub attempt: u32,
    /// Its image.
    pub image: ImageName,
    /// Takes the place of the image's entrypoint.
    pub command: Vec<String>,
    /// Take the place of the image's arguments.
    pub args: Vec<String>,
    /// Empty: the image's, else `/`.
    pub working_dir: String,
    /// In order.
    pub envs: Vec<(String, String)>,
    /// In order.
    pub mounts: Vec<MountRequest>,
    /// Labels, echoed unchanged.
    pub labels: BTreeMap<String, String>,
    /// Annotations, echoed unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Below the sandbox's log directory; empty: no log.
    pub log_path: String,
    /// Standard input is kept open for clients.
    pub stdin: bool,
    /// Standard input ends with its first client.
    pub stdin_once: bool,
    /// Its streams are a terminal.
    pub tty: bool,
    /// Limits; `None`: none were given.
    pub resources: Option<Resources>,
    /// User and groups.
    pub user: UserRequest,
    /// The root filesystem is read-only.
    pub readonly_rootfs: bool,
    /// Of the container's own context: the pod's counts, from which this must not differ.
    #[serde(default)]
    pub user_namespace: Option<UserNamespace>,
    /// With whom the guest's PID namespace is shared; counts where the pod's handler shows `/proc`.
    #[serde(default)]
    pub pid: NamespaceMode,
    /// The container whose PID namespace is joined.
    #[serde(default)]
    pub pid_target: String,
    /// Hidden from the guest.
    #[serde(default)]
    pub masked_paths: Vec<String>,
    /// Not to be changed by the guest.
    #[serde(default)]
    pub readonly_paths: Vec<String>,
    /// Which system calls it may make, beside what the runtime forbids.
    #[serde(default)]
    pub seccomp: SeccompRequest,
    /// What its capability bounding set shows.
    #[serde(default)]
    pub capabilities: CapabilityRequest,
    /// Asked for; the seccomp profile does not count then, and nothing else follows from it.
    #[serde(default)]
    pub privileged: bool,
    /// CRI's number of the stop signal; 0: the image's, else SIGTERM.
    pub stop_signal: i32,
}

impl ContainerConfig {
    /// The name that is reserved for it: unique among the containers that are there.
    pub fn reserved_name(&self, sandbox: &SandboxId) -> String {
        format!("{}_{}_{sandbox}", self.name, self.attempt)
    }
}

/// What a guest process is told, apart from descriptors. Composed once, at creation, so that the container runs as it was
/// accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// argv.
    pub args: Vec<String>,
    /// `NAME=VALUE` each.
    pub env: Vec<String>,
    /// Absolute.
    pub working_dir: String,
    /// Who runs.
    pub user: GuestUser,
    /// Absolute, or empty.
    pub termination_message_path: String,
    /// Path in the image of the wasm file that runs.
    pub module: PathBuf,
    /// Digest of that file; its compiled code is looked up by it at each start.
    pub module_digest: String,
    /// The pod's own seccomp profile, compiled.
    #[serde(default)]
    pub seccomp: Vec<SeccompProgram>,
}

/// The files of an image volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFiles {
    /// The image, which stays as long as the container.
    pub image_id: String,
    /// Directories on the node, topmost first, which are shown as one; or a file.
    pub places: Vec<PathBuf>,
}

/// A mount as it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedMount {
    /// Files of an image, in the place of `host_path`.
    #[serde(default)]
    pub image: Option<ImageFiles>,
    /// On the node, without links.
    pub host_path: PathBuf,
    /// In the container.
    pub container_path: String,
    /// See [`MountRequest::readonly`].
    pub readonly: bool,
    /// See [`MountRequest::recursive_readonly`].
    pub recursive_readonly: bool,
    /// See [`MountRequest::propagation`].
    pub propagation: MountPropagation,
    /// See [`MountRequest::ids`].
    #[serde(default)]
    pub id_mapped: bool,
}

/// What never changes of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMetadata {
    /// Its id.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// What the client asked for.
    pub config: ContainerConfig,
    /// Id of its image.
    pub image_id: String,
    /// Layers of its image, the topmost first. Kept here because an image that is removed while it is held can no longer be
    /// looked up.
    pub lower_dirs: Vec<PathBuf>,
    /// `name@digest` of its image, or the id of one that has none.
    pub image_ref: String,
    /// What people call its image: what they asked for, never an id if there is a name.
    pub image_name: String,
    /// Absolute path of its log; `None`: its output is discarded.
    pub log_path: Option<PathBuf>,
    /// What its process is told.
    pub process: ProcessSpec,
    /// Its mounts in the order in which they are made, with those that the sandbox brings.
    pub mounts: Vec<ResolvedMount>,
    /// The signal that StopContainer sends, as the kernel counts it.
    pub stop_signal: i32,
    /// Its cgroup.
    pub cgroup: String,
}

#[cfg(test)]
pub(crate) fn example(id: &str, sandbox: &str) -> ContainerMetadata {
    ContainerMetadata {
        id: ContainerId::from(id.to_owned()),
        sandbox: SandboxId::from(sandbox.to_owned()),
        created_at: 9,
        config: example_config(),
        image_id: "sha256:1".into(),
        lower_dirs: vec!["/layers/1".into()],
        image_ref: "registry/app@sha256:1".into(),
        image_name: "app:1".into(),
        log_path: Some("/var/log/pods/web/0.log".into()),
        process: ProcessSpec {
            args: vec!["/app.wasm".into()],
            env: Vec::new(),
            working_dir: "/".into(),
            user: GuestUser::default(),
            termination_message_path: String::new(),
            module: "/app.wasm".into(),
            module_digest: "sha256:2".into(),
            seccomp: Vec::new(),
        },
        mounts: Vec::new(),
        stop_signal: libc::SIGTERM,
        cgroup: format!("/cri-wasm/{sandbox}/{id}"),
    }
}

#[cfg(test)]
pub(crate) fn example_config() -> ContainerConfig {
    ContainerConfig {
        name: "app".into(),
        attempt: 1,
        image: ImageName { image: "app:1".into(), ..ImageName::default() },
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        envs: Vec::new(),
        mounts: Vec::new(),
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        annotations: BTreeMap::new(),
        log_path: "0.log".into(),
        stdin: false,
        stdin_once: false,
        tty: false,
        resources: None,
        user: UserRequest::default(),
        readonly_rootfs: false,
        user_namespace: None,
        pid: NamespaceMode::Pod,
        pid_target: String::new(),
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        seccomp: SeccompRequest::default(),
        capabilities: CapabilityRequest::default(),
        privileged: false,
        stop_signal: 0,
    }
}
