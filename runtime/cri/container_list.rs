//! ListContainers: several times a second with an empty filter, so it only reads memory.

use std::sync::Arc;

use super::error::Error;
use super::{answer_container, filter};
use crate::proto::runtime::v1::{ListContainersRequest, ListContainersResponse};
use crate::state::Runtime;

pub(super) async fn list(runtime: Arc<Runtime>, request: ListContainersRequest) -> Result<ListContainersResponse, Error> {
    let containers =
        filter::containers(&runtime, request.filter).iter().map(|container| answer_container::item(container)).collect();
    Ok(ListContainersResponse { containers })
}
