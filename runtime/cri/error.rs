//! The one place with `tonic::Status`: which error of ours is which code on the wire.
//!
//! Codes matter to clients where the comments say so; elsewhere they are the nearest that gRPC has.

use images::{CodeError, CompileError, LookupError, PullError, RemoveError as ImageRemoveError};
use tonic::{Code, Status};

use crate::cgroup::{CgroupError, PathError};
use crate::container::launch::LaunchError;
use crate::container::mounts::MountError;
use crate::container::release::RemoveError as ContainerRemoveError;
use crate::container::seccomp::SeccompError;
use crate::container::spec::SpecError;
use crate::container::stop::StopError;
use crate::events::Behind;
use crate::exec::ExecError;
use crate::host::HostError;
use crate::network::bandwidth::BandwidthError;
use crate::network::host_port::HostPortError;
use crate::network::{NetnsError, NetworkError};
use crate::sandbox::files::FileError;
use crate::sandbox::init::InitError;
use crate::sandbox::ipc::IpcError;
use crate::sandbox::release::ReleaseError;
use crate::sandbox::sysctls::SysctlError;
use crate::sandbox::userns::UsernsError;
use crate::state::Lost;
use crate::store::{IdError, StoreError, chain};
use crate::streaming::StreamingError;
use crate::{container, sandbox};

mod codes;

use codes::{cgroup_code, exec_code, host_code, launch_code, pull_code, spec_code, stop_code};

/// Why an RPC fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object that is not there. The kubelet takes this code of PodSandboxStatus and ContainerStatus for "it is gone".
    #[error("{what} {id:?} not found")]
    NotFound {
        /// Kind of object.
        what: &'static str,
        /// As it was asked for.
        id: String,
    },
    /// An id that names no single object.
    #[error("{what} id {id:?}: {reason}")]
    Id {
        /// Kind of object.
        what: &'static str,
        /// As it was asked for.
        id: String,
        /// Why.
        reason: IdError,
    },
    /// A request that can never succeed.
    #[error("{0}")]
    Invalid(String),
    /// The name is taken.
    #[error("the name {name:?} is reserved for {what} {id}")]
    NameTaken {
        /// Kind of object.
        what: &'static str,
        /// The reserved name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// It could succeed in another state.
    #[error("{0}")]
    Precondition(String),
    /// It is not built, or not asked for.
    #[error("{0}")]
    Unimplemented(String),
    /// It may succeed in a while.
    #[error("{0}")]
    Unavailable(String),
    /// A kernel setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// A bandwidth annotation.
    #[error(transparent)]
    Bandwidth(#[from] BandwidthError),
    /// A cgroup's path.
    #[error(transparent)]
    CgroupPath(#[from] PathError),
    /// A cgroup.
    #[error("cannot set up the cgroup")]
    Cgroup(#[from] CgroupError),
    /// CNI.
    #[error("cannot set up the pod's network")]
    Network(#[from] NetworkError),
    /// Host ports.
    #[error(transparent)]
    HostPort(#[from] HostPortError),
    /// A network namespace.
    #[error("cannot set up the pod's network namespace")]
    Namespace(#[from] NetnsError),
    /// An IPC namespace.
    #[error("cannot set up the pod's IPC namespace")]
    Ipc(#[from] IpcError),
    /// A user namespace.
    #[error("cannot set up the pod's user namespace")]
    Userns(#[from] UsernsError),
    /// The files of a sandbox.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The records.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sandbox's state.
    #[error(transparent)]
    SandboxChange(#[from] sandbox::ChangeError),
    /// A container's state.
    #[error(transparent)]
    ContainerChange(#[from] container::ChangeError),
    /// What a container is made of.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A seccomp profile.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A stop.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// A container's removal.
    #[error(transparent)]
    ContainerRemove(#[from] ContainerRemoveError),
    /// A pod's first process.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A sandbox's stop or removal.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The supervisor.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A command in a container.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A session of the streaming server.
    #[error(transparent)]
    Streaming(#[from] StreamingError),
    /// A pull.
    #[error("{}{}", pull_prefix(.0), .0)]
    Pull(PullError),
    /// An image's removal.
    #[error(transparent)]
    ImageRemove(#[from] ImageRemoveError),
    /// Compiled code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A file of an image.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A file of the node.
    #[error("cannot {action} {path}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: std::path::PathBuf,
        /// Why it was not.
        #[source]
        source: std::io::Error,
    },
    /// A client that does not take what it is sent.
    #[error(transparent)]
    Behind(#[from] Behind),
    /// Work that ended without an answer.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl Error {
    /// An object that was looked up by id.
    pub fn lookup(what: &'static str, id: &str) -> impl FnOnce(IdError) -> Self {
        let id = id.to_owned();
        move |reason| match reason {
            IdError::Missing => Self::NotFound { what, id },
            reason => Self::Id { what, id, reason },
        }
    }

    /// Whether the object simply is not there; Stop and Remove take that for success.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The code on the wire.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            Self::Id { .. } | Self::Invalid(_) | Self::Sysctl(_) | Self::Bandwidth(_) | Self::CgroupPath(_) => {
                Code::InvalidArgument
            }
            Self::NameTaken { .. } => Code::AlreadyExists,
            Self::Precondition(_) | Self::Seccomp(_) => Code::FailedPrecondition,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Unavailable(_) => Code::Unavailable,
            // To be begun anew, with a list, and not just called again.
            Self::Behind(_) => Code::Aborted,
            Self::Cgroup(error) => cgroup_code(error),
            Self::Network(NetworkError::NotConfigured(_)) => Code::Unavailable,
            Self::Network(NetworkError::Pod { .. }) => Code::InvalidArgument,
            Self::Namespace(NetnsError::NotANetworkSysctl(_) | NetnsError::Sysctl(_)) => Code::InvalidArgument,
            Self::Ipc(IpcError::Sysctl(_)) => Code::InvalidArgument,
            Self::HostPort(HostPortError::Sctp(_) | HostPortError::Refused(_)) => Code::FailedPrecondition,
            Self::SandboxChange(sandbox::ChangeError::Transition(_)) => Code::FailedPrecondition,
            Self::ContainerChange(container::ChangeError::Transition(_)) => Code::FailedPrecondition,
            Self::Spec(error) => spec_code(error),
            Self::Mount(MountError::HostPath { .. } | MountError::Image { .. }) => Code::FailedPrecondition,
            Self::Mount(_) => Code::InvalidArgument,
            Self::Launch(error) => launch_code(error),
            Self::Stop(error) => stop_code(error),
            Self::ContainerRemove(ContainerRemoveError::Stop(error)) => stop_code(error),
            Self::ContainerRemove(ContainerRemoveError::ShuttingDown) => Code::Unavailable,
            Self::Init(InitError::Host(error)) => host_code(error),
            Self::Init(InitError::Cgroup(error)) => cgroup_code(error),
            Self::Init(InitError::Path(_)) => Code::Internal,
            Self::Init(InitError::ShuttingDown) => Code::Unavailable,
            Self::Release(ReleaseError::Container { source, .. }) => stop_code(source),
            Self::Release(ReleaseError::ShuttingDown) => Code::Unavailable,
            Self::Release(ReleaseError::TimedOut(_)) => Code::DeadlineExceeded,
            Self::Host(error) => host_code(error),
            Self::Exec(error) => exec_code(error),
            Self::Streaming(StreamingError::Off) => Code::Unavailable,
            Self::Streaming(StreamingError::Url(_)) => Code::ResourceExhausted,
            Self::Pull(error) => pull_code(error),
            Self::ImageRemove(ImageRemoveError::InvalidReference { .. }) => Code::InvalidArgument,
            Self::Code(CodeError::Compile { reason: CompileError::Rejected(_), .. }) => Code::FailedPrecondition,
            Self::Code(CodeError::Unknown { .. } | CodeError::Damaged { .. }) => Code::FailedPrecondition,
            Self::Network(_)
            | Self::HostPort(_)
            | Self::Namespace(_)
            | Self::Ipc(_)
            | Self::Userns(_)
            | Self::Files(_)
            | Self::Store(_)
            | Self::SandboxChange(_)
            | Self::ContainerChange(_)
            | Self::ContainerRemove(_)
            | Self::Release(_)
            | Self::ImageRemove(_)
            | Self::Code(_)
            | Self::Lookup(_)
            | Self::Io { .. }
            | Self::Lost(_) => Code::Internal,
        }
    }
}

impl From<PullError> for Error {
    fn from(error: PullError) -> Self {
        Self::Pull(error)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), chain(&error))
    }
}

/// The kubelet knows the reasons RegistryUnavailable and SignatureValidationFailed by the beginning of the text ...
fn pull_prefix(error: &PullError) -> &'static str {
    match error {
        PullError::RegistryUnavailable { .. } => "RegistryUnavailable: ",
        PullError::Refused { .. } => "SignatureValidationFailed: ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::entrypoint::EntrypointError;

    #[test]
    fn each_code_has_its_errors() {
        let id = || "x".to_owned();
        let registry =
            |detail: &str| PullError::RegistryUnavailable { reference: id(), registry: id(), detail: detail.to_owned() };
        let cases: Vec<(Error, Code)> = vec![
            (Error::lookup("container", "x")(IdError::Missing), Code::NotFound),
            (Error::lookup("container", "x")(IdError::Ambiguous), Code::InvalidArgument),
            (Error::lookup("container", "")(IdError::Empty), Code::InvalidArgument),
            (Error::Invalid(id()), Code::InvalidArgument),
            (Error::NameTaken { what: "sandbox", name: id(), id: id() }, Code::AlreadyExists),
            (Error::Precondition(id()), Code::FailedPrecondition),
            (Error::Unimplemented(id()), Code::Unimplemented),
            (Error::Unavailable(id()), Code::Unavailable),
            (Error::from(SysctlError::NotOfAPod(id())), Code::InvalidArgument),
            (Error::from(StopError::StillThere), Code::DeadlineExceeded),
            (Error::from(StopError::ShuttingDown), Code::Unavailable),
            (Error::from(SpecError::Entrypoint(EntrypointError::Native(id()))), Code::FailedPrecondition),
            (Error::from(SpecError::User(container::user::UserError::GroupWithoutUser(1))), Code::InvalidArgument),
            (Error::from(MountError::Destination(id())), Code::InvalidArgument),
            (Error::from(Lost(id())), Code::Internal),
            (Error::from(registry("down")), Code::Unknown),
            (Error::from(PullError::NotFound { reference: id(), registry: id(), what: id() }), Code::NotFound),
            (Error::from(PullError::Unauthorized { reference: id(), registry: id(), detail: id() }), Code::Unauthenticated),
            (Error::from(PullError::TooLarge { reference: id(), what: id(), limit: 1, option: "o" }), Code::ResourceExhausted),
            (
                Error::from(PullError::DigestMismatch {
                    reference: id(),
                    registry: id(),
                    what: id(),
                    expected: id(),
                    actual: id(),
                }),
                Code::DataLoss,
            ),
        ];
        for (error, code) in cases {
            let text = chain(&error);
            assert_eq!(Status::from(error).code(), code, "{text}");
        }
    }

    #[test]
    fn a_wrong_state_names_the_state_and_is_a_failed_precondition() {
        let error = container::TransitionError { state: container::ContainerState::Running, event: "be started" };
        let status = Status::from(Error::from(container::ChangeError::from(error)));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "a container in state Running cannot be started");
    }

    #[test]
    fn a_registry_that_is_down_begins_with_the_word_that_the_kubelet_looks_for() {
        let error =
            PullError::RegistryUnavailable { reference: "a/b:1".into(), registry: "a".into(), detail: "no answer".into() };
        let status = Status::from(Error::from(error));
        assert!(status.message().starts_with("RegistryUnavailable: a/b:1: registry a failed"), "{}", status.message());
    }
}
