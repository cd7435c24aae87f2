//! PullImage. Ends with its caller: what was fetched whole is kept, and the next pull goes on from there.

use std::sync::Arc;

use images::Auth;

use super::error::Error;
use super::request_container;
use crate::proto::runtime::v1::{AuthConfig, PullImageRequest, PullImageResponse};
use crate::state::Runtime;

pub(super) async fn pull(runtime: Arc<Runtime>, request: PullImageRequest) -> Result<PullImageResponse, Error> {
    let name = request_container::image(request.image)?;
    let auth = request.auth.map(auth).filter(|auth| *auth != Auth::default());
    let image = runtime.pull(&name.image, auth, None).await?;
    tracing::info!(reference = name.image, image = %image.id, size = image.size, "the image is here");
    // The same identity as everywhere: Image.id, ContainerStatus.image_id, Container.image_id.
    Ok(PullImageResponse { image_ref: image.id.clone() })
}

fn auth(auth: AuthConfig) -> Auth {
    Auth {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    }
}
