//! Version. Clients refuse an answer with an empty field; the kubelet ends if `version` is anything but `0.1.0`.

use std::sync::Arc;

use super::error::Error;
use crate::proto::runtime::v1::{VersionRequest, VersionResponse};
use crate::state::Runtime;

/// Becomes the prefix of containers' ids in a pod's status.
const RUNTIME_NAME: &str = "cri-wasm";

pub(super) async fn version(_: Arc<Runtime>, _: VersionRequest) -> Result<VersionResponse, Error> {
    Ok(VersionResponse {
        version: "0.1.0".to_owned(),
        runtime_name: RUNTIME_NAME.to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    })
}
