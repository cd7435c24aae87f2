//! ImageFsInfo: what the images take, and what the containers' writable layers take. The kubelet crashes without `used_bytes`.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::Error;
use crate::metrics;
use crate::proto::runtime::v1::{FilesystemIdentifier, FilesystemUsage, ImageFsInfoRequest, ImageFsInfoResponse, UInt64Value};
use crate::state::Runtime;
use crate::stats::layer::measure;

pub(super) async fn info(runtime: Arc<Runtime>, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, Error> {
    let images = runtime.images.usage().await.map_err(|source| Error::Io {
        action: "measure the images in",
        path: runtime.config.root.clone(),
        source,
    })?;
    metrics::image_store(&runtime.images, images.used_bytes);
    let containers = runtime.config.root.join("containers");
    let measured = containers.clone();
    // Every inode below it, but not its own.
    let size = tokio::task::spawn_blocking(move || measure(&measured, u64::MAX)).await.ok().flatten().unwrap_or_default();
    let (used, inodes) = (size.bytes, size.inodes.saturating_sub(1));
    // The directory is made with the first container; its parent is on the same filesystem.
    let containers = if containers.is_dir() { containers } else { runtime.config.root.clone() };
    Ok(ImageFsInfoResponse {
        image_filesystems: vec![usage(images.mountpoint, images.used_bytes, images.inodes)],
        container_filesystems: vec![usage(containers, used, inodes)],
    })
}

fn usage(mountpoint: PathBuf, used: u64, inodes: u64) -> FilesystemUsage {
    FilesystemUsage {
        timestamp: wasm_host::protocol::now(),
        fs_id: Some(FilesystemIdentifier { mountpoint: mountpoint.to_string_lossy().into_owned() }),
        used_bytes: Some(UInt64Value { value: used }),
        inodes_used: Some(UInt64Value { value: inodes }),
    }
}
