//! PortForward: where the client finds its session. Which ports is said there, connection by connection.

use std::sync::Arc;

use super::error::Error;
use crate::proto::runtime::v1::{PortForwardRequest, PortForwardResponse};
use crate::state::Runtime;
use crate::streaming::{Forward, StreamingError};

pub(super) async fn port_forward(runtime: Arc<Runtime>, request: PortForwardRequest) -> Result<PortForwardResponse, Error> {
    let sandbox = runtime.sandboxes.find(&request.pod_sandbox_id).map_err(Error::lookup("sandbox", &request.pod_sandbox_id))?;
    super::container_create::require_ready(&sandbox)?;
    let port = |&port: &i32| {
        let number = u16::try_from(port).ok().filter(|port| *port > 0);
        number.ok_or_else(|| Error::Invalid(format!("{port} is no port: 1 to 65535 are")))
    };
    let ports = request.port.iter().map(port).collect::<Result<_, _>>()?;
    let streaming = runtime.streaming.get().ok_or(StreamingError::Off)?;
    Ok(PortForwardResponse { url: streaming.forward_url(Forward(sandbox.id().to_string()), ports)? })
}
