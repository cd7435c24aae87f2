//! ImageFsInfo: what the images take, and what the containers' writable layers take. The kubelet crashes without `used_bytes`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use crate::metrics;
use crate::proto::runtime::v1::{FilesystemIdentifier, FilesystemUsage, ImageFsInfoRequest, ImageFsInfoResponse, UInt64Value};
use crate::state::Runtime;

pub(super) async fn info(runtime: Arc<Runtime>, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, Error> {
    let images = runtime.images.usage().await.map_err(|source| Error::Io {
        action: "measure the images in",
        path: runtime.config.root.clone(),
        source,
    })?;
    metrics::image_store(&runtime.images, images.used_bytes);
    let containers = runtime.config.root.join("containers");
    let measured = containers.clone();
    let (used, inodes) = tokio::task::spawn_blocking(move || measure(&measured)).await.unwrap_or_default();
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

/// Bytes in allocated blocks, and inodes. What disappears while it is looked at is not counted.
fn measure(directory: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut used, mut inodes) = (0u64, 0u64);
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            // st_blocks counts 512 bytes whatever the filesystem's block is.
            used = used.saturating_add(metadata.blocks().saturating_mul(512));
            inodes = inodes.saturating_add(1);
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    (used, inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_measured_and_a_missing_one_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        std::fs::write(directory.path().join("a/file"), vec![1; 10_000]).unwrap();
        let (used, inodes) = measure(directory.path());
        assert!(used >= 10_000, "{used}");
        assert_eq!(inodes, 2);
        assert_eq!(measure(&directory.path().join("none")), (0, 0));
    }
}
