//! ListImages.

use std::sync::Arc;

use super::answer_image;
use super::error::Error;
use crate::proto::runtime::v1::{ListImagesRequest, ListImagesResponse};
use crate::state::Runtime;

pub(super) async fn list(runtime: Arc<Runtime>, request: ListImagesRequest) -> Result<ListImagesResponse, Error> {
    let wanted = request.filter.and_then(|filter| filter.image).map(|image| image.image).filter(|image| !image.is_empty());
    let images = match wanted {
        Some(image) => runtime.images.get(&image).into_iter().collect(),
        None => runtime.images.list(),
    };
    Ok(ListImagesResponse {
        images: images.iter().map(|image| answer_image::image(image, runtime.images.is_pinned(image))).collect(),
    })
}
