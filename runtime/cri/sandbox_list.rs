//! ListPodSandbox: several times a second with an empty filter, so it only reads memory.

use std::sync::Arc;

use super::error::Error;
use super::{answer_sandbox, filter};
use crate::proto::runtime::v1::{ListPodSandboxRequest, ListPodSandboxResponse};
use crate::state::Runtime;

pub(super) async fn list(runtime: Arc<Runtime>, request: ListPodSandboxRequest) -> Result<ListPodSandboxResponse, Error> {
    let items = filter::sandboxes(&runtime, request.filter).iter().map(|sandbox| answer_sandbox::item(sandbox)).collect();
    Ok(ListPodSandboxResponse { items })
}
