//! Codes of errors that have many kinds of their own.

use images::{CompileError, PullError};
use tonic::Code;

use crate::cgroup::CgroupError;
use crate::cgroup::systemd::SystemdError;
use crate::container::entrypoint::EntrypointError;
use crate::container::launch::LaunchError;
use crate::container::spec::SpecError;
use crate::container::stop::StopError;
use crate::container::user::UserError;
use crate::exec::ExecError;
use crate::host::HostError;

pub(super) fn spec_code(error: &SpecError) -> Code {
    match error {
        SpecError::Entrypoint(EntrypointError::Unreadable { .. }) => Code::Internal,
        SpecError::Entrypoint(_) => Code::FailedPrecondition,
        SpecError::User(UserError::GroupWithoutUser(_) | UserError::Number { .. }) => Code::InvalidArgument,
        SpecError::User(_) => Code::FailedPrecondition,
        SpecError::Field { .. } => Code::InvalidArgument,
    }
}

pub(super) fn cgroup_code(error: &CgroupError) -> Code {
    match error {
        CgroupError::InvalidLimit { .. } => Code::InvalidArgument,
        CgroupError::MissingController { .. } | CgroupError::InUse { .. } => Code::FailedPrecondition,
        CgroupError::Systemd { source: SystemdError::Connect { .. } | SystemdError::Lost { .. }, .. } => Code::Unavailable,
        // The kernel's word on a processor that is not there, a quota above the pod's, a number out of range.
        CgroupError::Write { source, .. }
            if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::ERANGE | libc::EOPNOTSUPP)) =>
        {
            Code::InvalidArgument
        }
        _ => Code::Internal,
    }
}

pub(super) fn launch_code(error: &LaunchError) -> Code {
    match error {
        LaunchError::TooManyMounts { .. } => Code::InvalidArgument,
        LaunchError::Cgroup(error) => cgroup_code(error),
        LaunchError::Host(error) => host_code(error),
        LaunchError::Cancelled => Code::Unavailable,
        LaunchError::PidTarget(_) => Code::FailedPrecondition,
        LaunchError::Path { .. } | LaunchError::Network(_) | LaunchError::Pinned(_) => Code::Internal,
    }
}

pub(super) fn host_code(error: &HostError) -> Code {
    match error {
        HostError::NotRunning | HostError::OrdersWaiting => Code::Unavailable,
        HostError::TimedOut { .. } => Code::DeadlineExceeded,
        // Its memory limit is less than a process needs.
        HostError::Refused { errno: libc::ENOMEM, .. } => Code::FailedPrecondition,
        _ => Code::Internal,
    }
}

pub(super) fn exec_code(error: &ExecError) -> Code {
    match error {
        ExecError::NotRunning { .. } => Code::FailedPrecondition,
        // The kubelet counts an exec probe as timed out by this code.
        ExecError::TimedOut { .. } => Code::DeadlineExceeded,
        ExecError::Host(error) => host_code(error),
        ExecError::Cgroup(error) => cgroup_code(error),
        ExecError::Cancelled => Code::Unavailable,
        // What is the command's own fault is its output, not an error of the call.
        ExecError::Program(_) | ExecError::Compile { .. } | ExecError::NoCommand { .. } => Code::FailedPrecondition,
        ExecError::Code(_) | ExecError::Pinned(_) | ExecError::System { .. } => Code::Internal,
    }
}

pub(super) fn stop_code(error: &StopError) -> Code {
    match error {
        StopError::StillThere => Code::DeadlineExceeded,
        StopError::ShuttingDown => Code::Unavailable,
        StopError::Signal(_) | StopError::Kill(_) => Code::Internal,
    }
}

pub(super) fn pull_code(error: &PullError) -> Code {
    match error {
        PullError::InvalidReference { .. } | PullError::InvalidArtifact { .. } => Code::InvalidArgument,
        PullError::NotFound { .. } => Code::NotFound,
        PullError::Unauthorized { .. } => Code::Unauthenticated,
        // ... and looks at the text alone only where the code is Unknown; with any other the code's name stands before it.
        PullError::RegistryUnavailable { .. } | PullError::Refused { .. } => Code::Unknown,
        PullError::Denied { .. } => Code::PermissionDenied,
        PullError::RegistryConfig { .. } | PullError::VerifierFailed { .. } => Code::FailedPrecondition,
        PullError::DigestMismatch { .. } => Code::DataLoss,
        PullError::Unsupported { .. } => Code::FailedPrecondition,
        PullError::TooLarge { .. } => Code::ResourceExhausted,
        PullError::Compile { reason: CompileError::Rejected(_), .. } => Code::FailedPrecondition,
        PullError::Compile { reason: CompileError::Limit(_), .. } => Code::ResourceExhausted,
        PullError::Compile { reason: CompileError::Failed(_), .. } => Code::Internal,
        PullError::Io { io, .. } if io.is_full() => Code::ResourceExhausted,
        PullError::Io { .. } => Code::Internal,
    }
}
