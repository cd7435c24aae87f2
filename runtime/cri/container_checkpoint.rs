//! CheckpointContainer: refused. What a guest is lies in the memory and on the stack of the compiled code that runs it, and in the
//! engine's own structures beside it; no engine writes that down, and CRIU knows nothing of the supervisor that forked it.

use std::sync::Arc;

use super::error::Error;
use crate::proto::runtime::v1::{CheckpointContainerRequest, CheckpointContainerResponse};
use crate::state::Runtime;

pub(super) async fn checkpoint(
    _runtime: Arc<Runtime>,
    request: CheckpointContainerRequest,
) -> Result<CheckpointContainerResponse, Error> {
    Err(Error::Unimplemented(format!(
        "container {:?} cannot be checkpointed: the state of a running wasm guest cannot be written down and restored; let the \
         application keep what it needs in a volume, and start it anew",
        request.container_id
    )))
}
