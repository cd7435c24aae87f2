//! ImageStatus: an image that is not there is an answer without one, and no error.

use std::collections::HashMap;
use std::sync::Arc;

use images::Image;

use super::error::Error;
use super::{answer_image, request_container};
use crate::proto::runtime::v1::{ImageStatusRequest, ImageStatusResponse};
use crate::state::Runtime;

pub(super) async fn status(runtime: Arc<Runtime>, request: ImageStatusRequest) -> Result<ImageStatusResponse, Error> {
    let name = request_container::image(request.image)?;
    let Some(image) = runtime.images.get(&name.image) else { return Ok(ImageStatusResponse::default()) };
    Ok(ImageStatusResponse {
        image: Some(answer_image::image(&image)),
        info: if request.verbose { info(&image) } else { HashMap::new() },
    })
}

fn info(image: &Image) -> HashMap<String, String> {
    let info = serde_json::json!({
        "os": image.os,
        "architecture": image.architecture,
        "config": image.config,
        "kind": image.kind,
        "wasm": image.wasm,
        "pulledAt": image.pulled_at,
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}
