//! From one platform's manifest to an image whose layers lie in the store: packaging, configuration, layers, and the
//! wasm files that they show.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::try_join_all;

use super::{LayerSource, Pull, Resolved, download};
use crate::api::Inner;
use crate::artifact::{self, Packaging, Refused};
use crate::digest::Digest;
use crate::error::PullError;
use crate::files;
use crate::image::{ArtifactKind, Image, ImageConfig, WasmFile};
use crate::layer::Layer;
use crate::manifest::{self, Descriptor};
use crate::store::Item;

impl Pull {
    /// Brings the configuration and the layers.
    pub(super) async fn fetch(&self, resolved: &Resolved, blobs: &mut Vec<(Digest, Vec<u8>)>) -> Result<Image, PullError> {
        let Resolved { manifest, digest, .. } = resolved;
        let limits = &self.inner.config.limits;
        let packaging = artifact::recognise(manifest).map_err(|refused| match refused {
            Refused::Invalid(reason) => self.invalid(reason),
            Refused::Unsupported(reason) => PullError::Unsupported { reference: self.text(), reason },
        })?;
        if manifest.layers.len() > limits.layers {
            return Err(self.too_large("the number of layers", limits.layers as u64, "layers"));
        }
        let Descriptor { digest: config_digest, size, .. } = &manifest.config;
        let config_bytes = self.session.small_blob(config_digest, *size, limits.config_bytes).await;
        let config_bytes = config_bytes.map_err(|error| self.failed_at(error, "max_manifest_bytes"))?;

        let (kind, sources, config, platform) = match packaging {
            Packaging::Artifact { layer, file_name } => {
                let platform = manifest::parse_config(&config_bytes).map(|file| (file.os, file.architecture)).unwrap_or_default();
                let kind = ArtifactKind::Artifact { module: artifact::module_path(&file_name) };
                let config = ImageConfig { labels: manifest.annotations.clone(), ..ImageConfig::default() };
                (kind, vec![LayerSource::Module { blob: layer.clone(), file_name }], config, platform)
            }
            Packaging::Image => {
                let file = manifest::parse_config(&config_bytes).map_err(|reason| self.invalid(reason))?;
                if file.diff_ids.len() != manifest.layers.len() {
                    let (layers, ids) = (manifest.layers.len(), file.diff_ids.len());
                    return Err(self.invalid(format!("it has {layers} layers and diff-ids for {ids}")));
                }
                if file.os == "windows" {
                    let reason = "it is for windows; only wasm and linux images are supported".to_owned();
                    return Err(PullError::Unsupported { reference: self.text(), reason });
                }
                let sources = manifest.layers.iter().zip(file.diff_ids);
                let sources = sources.map(|(blob, diff_id)| LayerSource::Archive { blob: blob.clone(), diff_id });
                (ArtifactKind::Image, sources.collect(), file.config, (file.os, file.architecture))
            }
        };
        self.pins.add(Item::Blob(config_digest.clone()));
        blobs.push((config_digest.clone(), config_bytes));

        for source in &sources {
            self.pins.add(Item::Layer(source.name()));
            if source.blob().size > limits.layer_bytes {
                return Err(self.too_large(&format!("layer {}", source.blob().digest), limits.layer_bytes, "max_layer_bytes"));
            }
        }
        let layers = try_join_all(sources.iter().map(|source| download::layer(&self.inner, &self.session, source)));
        let layers = layers.await.map_err(|error| self.layer_failed(error))?;
        let names = stack(sources.iter().map(LayerSource::name).zip(layers.iter().map(|layer| layer.opaque)).collect());
        let blob_sizes = manifest.layers.iter().map(|layer| layer.size).fold(0u64, u64::saturating_add);
        let manifest_size = resolved.blobs.last().map_or(0, |(_, bytes)| bytes.len() as u64);
        let mut image = Image {
            id: digest.to_string(),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            size: blob_sizes.saturating_add(manifest.config.size).saturating_add(manifest_size),
            os: platform.0,
            architecture: platform.1,
            config,
            kind,
            wasm: Vec::new(),
            layers: names,
            pulled_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        };
        let (inner, kept) = (self.inner.clone(), image.clone());
        let wasm = tokio::task::spawn_blocking(move || visible_wasm(&inner, &kept)).await;
        image.wasm = wasm.unwrap_or_default();
        if image.wasm.len() > limits.modules {
            return Err(self.too_large("the number of wasm files", limits.modules as u64, "modules"));
        }
        if let ArtifactKind::Artifact { .. } = image.kind
            && image.wasm.is_empty()
        {
            return Err(self.invalid("its layer says it is wasm, and is not".to_owned()));
        }
        Ok(image)
    }
}

/// The layers that are seen, lowest first. Overlayfs takes no directory twice, and where a layer comes twice its upper
/// place hides all of its lower one; and it does not look for the opaque mark on a layer's root.
fn stack(layers: Vec<(String, bool)>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, opaque) in layers.into_iter().rev() {
        if !names.contains(&name) {
            names.push(name);
        }
        if opaque {
            break;
        }
    }
    names.reverse();
    names
}

/// The wasm files of all layers that no upper layer hides.
fn visible_wasm(inner: &Inner, image: &Image) -> Vec<WasmFile> {
    let lower_dirs = inner.store.lower_dirs(image);
    let mut wasm = Vec::new();
    for (index, name) in image.layers.iter().rev().enumerate() {
        let Some(layer): Option<Arc<Layer>> = inner.store.layer(name) else { continue };
        for (path, digest) in &layer.wasm {
            let path = PathBuf::from("/").join(path);
            let seen = files::locate(&lower_dirs, &path).is_ok_and(|found| found.layer == index && found.path == path);
            if seen {
                wasm.push(WasmFile { path, digest: digest.to_string() });
            }
        }
    }
    wasm.sort();
    wasm
}

#[cfg(test)]
mod tests {
    use super::stack;

    #[test]
    fn a_layer_that_comes_twice_is_stacked_once_at_its_upper_place() {
        let layers = [("a", false), ("b", false), ("a", false), ("c", false)];
        let layers = layers.map(|(name, opaque)| (name.to_owned(), opaque)).to_vec();
        assert_eq!(stack(layers), ["b", "a", "c"]);
    }

    #[test]
    fn an_opaque_layer_hides_all_below() {
        let layers = [("a", false), ("b", true), ("c", false)];
        let layers = layers.map(|(name, opaque)| (name.to_owned(), opaque)).to_vec();
        assert_eq!(stack(layers), ["b", "c"]);
    }
}
