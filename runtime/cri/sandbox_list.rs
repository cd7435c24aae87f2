//! ListPodSandbox and StreamPodSandboxes: several times a second with an empty filter, so they only read memory.

use std::sync::Arc;

use futures_util::Stream;

use super::error::Error;
use super::stream_portions::portions;
use super::{answer_sandbox, filter};
use crate::proto::runtime::v1::{
    ListPodSandboxRequest, ListPodSandboxResponse, StreamPodSandboxesRequest, StreamPodSandboxesResponse,
};
use crate::state::Runtime;

pub(super) async fn list(runtime: Arc<Runtime>, request: ListPodSandboxRequest) -> Result<ListPodSandboxResponse, Error> {
    let items = filter::sandboxes(&runtime, request.filter).iter().map(|sandbox| answer_sandbox::item(sandbox)).collect();
    Ok(ListPodSandboxResponse { items })
}

pub(super) async fn stream(
    runtime: Arc<Runtime>,
    request: StreamPodSandboxesRequest,
) -> Result<impl Stream<Item = Result<StreamPodSandboxesResponse, Error>>, Error> {
    let sandboxes = filter::sandboxes(&runtime, request.filter);
    let message = |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes };
    Ok(portions(sandboxes, |sandbox| answer_sandbox::item(&sandbox), message))
}
