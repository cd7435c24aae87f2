//! Exec and Attach: where the client finds its session.

use std::sync::Arc;

use streaming::{Kind, Wanted};

use super::error::Error;
use crate::container::{Container, ContainerState};
use crate::exec::ExecError;
use crate::proto::runtime::v1::{AttachRequest, AttachResponse, ExecRequest, ExecResponse};
use crate::state::Runtime;
use crate::streaming::{Command, StreamingError};

pub(super) async fn exec(runtime: Arc<Runtime>, request: ExecRequest) -> Result<ExecResponse, Error> {
    let container = running(&runtime, &request.container_id)?;
    if request.cmd.is_empty() {
        return Err(Error::Invalid("the request names no command".to_owned()));
    }
    let wanted = wanted(request.stdin, request.stdout, request.stderr, request.tty)?;
    let command = Command::Exec { container: container.id().to_string(), command: request.cmd, tty: request.tty };
    Ok(ExecResponse { url: url(&runtime, Kind::Exec, command, wanted)? })
}

pub(super) async fn attach(runtime: Arc<Runtime>, request: AttachRequest) -> Result<AttachResponse, Error> {
    let container = running(&runtime, &request.container_id)?;
    if request.tty != container.metadata().config.tty {
        let has = if request.tty { "no terminal" } else { "a terminal" };
        return Err(Error::Invalid(format!("container {} has {has}: tty must be asked for as it was created", container.id())));
    }
    let wanted = wanted(request.stdin, request.stdout, request.stderr, request.tty)?;
    let command = Command::Attach { container: container.id().to_string() };
    Ok(AttachResponse { url: url(&runtime, Kind::Attach, command, wanted)? })
}

fn running(runtime: &Runtime, id: &str) -> Result<Arc<Container>, Error> {
    let container = runtime.containers.find(id).map_err(Error::lookup("container", id))?;
    match container.state() {
        ContainerState::Running => Ok(container),
        state => Err(ExecError::NotRunning { id: container.id().to_string(), state }.into()),
    }
}

/// ExecRequest: at least one stream; a terminal has no stderr of its own.
fn wanted(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<Wanted, Error> {
    if tty && stderr {
        return Err(Error::Invalid("tty and stderr cannot both be asked for: a terminal has one output".to_owned()));
    }
    if !(stdin || stdout || stderr) {
        return Err(Error::Invalid("one of stdin, stdout and stderr must be asked for".to_owned()));
    }
    Ok(Wanted { stdin, stdout, stderr, tty })
}

fn url(runtime: &Runtime, kind: Kind, command: Command, wanted: Wanted) -> Result<String, Error> {
    Ok(runtime.streaming.get().ok_or(StreamingError::Off)?.command_url(kind, command, wanted)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_must_make_sense() {
        assert_eq!(wanted(false, false, false, true).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(wanted(true, true, true, true).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert!(wanted(true, true, true, false).is_ok() && wanted(false, true, false, true).is_ok());
    }
}
