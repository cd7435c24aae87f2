//! ImageStatus: an image that is not there is an answer without one, and no error.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::Error;
use super::{answer_image, request_container};
use crate::proto::runtime::v1::{ImageStatusRequest, ImageStatusResponse};
use crate::state::Runtime;

pub(super) async fn status(runtime: Arc<Runtime>, request: ImageStatusRequest) -> Result<ImageStatusResponse, Error> {
    let name = request_container::image(request.image)?;
    let Some(image) = runtime.images.get(&name.image) else { return Ok(ImageStatusResponse::default()) };
    let info = if request.verbose {
        let details = runtime.images.inspect(&image).await;
        let text = serde_json::to_string(&details).unwrap_or_else(|error| format!("{error}"));
        HashMap::from([("info".to_owned(), text)])
    } else {
        HashMap::new()
    };
    Ok(ImageStatusResponse { image: Some(answer_image::image(&image, runtime.images.is_pinned(&image))), info })
}
