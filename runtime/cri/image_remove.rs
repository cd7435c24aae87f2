//! RemoveImage: with all its tags; an image that is not there is fine. What containers use of it stays until they are gone.

use std::sync::Arc;

use super::error::Error;
use super::request_container;
use crate::proto::runtime::v1::{RemoveImageRequest, RemoveImageResponse};
use crate::state::Runtime;

pub(super) async fn remove(runtime: Arc<Runtime>, request: RemoveImageRequest) -> Result<RemoveImageResponse, Error> {
    let name = request_container::image(request.image)?;
    let task = Arc::clone(&runtime);
    runtime.run_to_end(async move { task.images.remove(&name.image).await }).await??;
    runtime.measure_images();
    Ok(RemoveImageResponse {})
}
