//! ListImages and StreamImages.

use std::sync::Arc;

use futures_util::Stream;
use images::Image;

use super::answer_image;
use super::error::Error;
use super::stream_portions::portions;
use crate::proto::runtime::v1::{ImageFilter, ListImagesRequest, ListImagesResponse, StreamImagesRequest, StreamImagesResponse};
use crate::state::Runtime;

pub(super) async fn list(runtime: Arc<Runtime>, request: ListImagesRequest) -> Result<ListImagesResponse, Error> {
    let found = matching(&runtime, request.filter);
    Ok(ListImagesResponse {
        images: found.iter().map(|image| answer_image::image(image, runtime.images.is_pinned(image))).collect(),
    })
}

pub(super) async fn stream(
    runtime: Arc<Runtime>,
    request: StreamImagesRequest,
) -> Result<impl Stream<Item = Result<StreamImagesResponse, Error>>, Error> {
    let found = matching(&runtime, request.filter);
    let item = move |image: Arc<Image>| answer_image::image(&image, runtime.images.is_pinned(&image));
    Ok(portions(found, item, |images| StreamImagesResponse { images }))
}

fn matching(runtime: &Runtime, filter: Option<ImageFilter>) -> Vec<Arc<Image>> {
    let wanted = filter.and_then(|filter| filter.image).map(|image| image.image).filter(|image| !image.is_empty());
    match wanted {
        Some(image) => runtime.images.get(&image).into_iter().collect(),
        None => runtime.images.list(),
    }
}
