//! ListContainers and StreamContainers: several times a second with an empty filter, so they only read memory.

use std::sync::Arc;

use futures_util::Stream;

use super::error::Error;
use super::stream_portions::portions;
use super::{answer_container, filter};
use crate::proto::runtime::v1::{
    ListContainersRequest, ListContainersResponse, StreamContainersRequest, StreamContainersResponse,
};
use crate::state::Runtime;

pub(super) async fn list(runtime: Arc<Runtime>, request: ListContainersRequest) -> Result<ListContainersResponse, Error> {
    let containers =
        filter::containers(&runtime, request.filter).iter().map(|container| answer_container::item(container)).collect();
    Ok(ListContainersResponse { containers })
}

pub(super) async fn stream(
    runtime: Arc<Runtime>,
    request: StreamContainersRequest,
) -> Result<impl Stream<Item = Result<StreamContainersResponse, Error>>, Error> {
    let found = filter::containers(&runtime, request.filter);
    let message = |containers| StreamContainersResponse { containers };
    Ok(portions(found, |container| answer_container::item(&container), message))
}
