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
use crate::files::{self, FileKind};
use crate::image::{ArtifactKind, Image, ImageConfig, WasmFile};
use crate::layer::Layer;
use crate::manifest::{self, Descriptor};
use crate::store::Item;

impl Pull {
    /// Brings the configuration and the layers.
    pub(super) async fn fetch(&self, resolved: &Resolved, blobs: &mut Vec<(Digest, Vec<u8>)>) -> Result<Image, PullError> {
        let Resolved { manifest, digest, .. } = resolved;
        let limits = &self.inner.config.limits;
        let packaging = artifact::recognise(manifest).map_err(|refused| self.refused(refused))?;
        let config_digest = &manifest.config.digest;
        let config_bytes = self.small_blob(&manifest.config).await?;
        let packaging = packaging.seen_with(manifest, &config_bytes).map_err(|refused| self.refused(refused))?;

        let (kind, sources, config, platform) = match packaging {
            Packaging::Module { layer, file_name } => {
                modules(artifact::contents(manifest, layer, file_name, &config_bytes), &config_bytes)
            }
            Packaging::Spin { application } => {
                let contents = match application {
                    Some(layer) => artifact::spin::contents(manifest, &self.small_blob(layer).await?),
                    None => artifact::spin::contents(manifest, &config_bytes),
                };
                modules(contents.map_err(|refused| self.refused(refused))?, &config_bytes)
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
        if sources.len() > limits.layers {
            return Err(self.too_large("the number of layers", limits.layers as u64, "max_layers"));
        }
        self.pins.add(Item::Blob(config_digest.clone()));
        blobs.push((config_digest.clone(), config_bytes));

        for source in &sources {
            self.pins.add(Item::Layer(source.name()));
            if source.blob().size > limits.layer_bytes {
                return Err(self.too_large(&format!("layer {}", source.blob().digest), limits.layer_bytes, "max_layer_bytes"));
            }
        }
        self.check_room(&sources).await?;
        let layers = try_join_all(sources.iter().map(|source| download::layer(self, source)));
        let layers = layers.await.map_err(|error| self.layer_failed(error))?;
        let names = stack(sources.iter().map(LayerSource::name).zip(layers.iter().map(|layer| layer.opaque)).collect());
        let blob_sizes = sources.iter().map(|source| source.blob().size).fold(0u64, u64::saturating_add);
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
            return Err(self.too_large("the number of wasm files", limits.modules as u64, "max_modules"));
        }
        self.all_wasm(&image, &sources)?;
        Ok(image)
    }

    /// The configuration, or another blob that is read and not kept as a layer.
    async fn small_blob(&self, blob: &Descriptor) -> Result<Vec<u8>, PullError> {
        let limit = self.inner.config.limits.config_bytes;
        let bytes = self.session.small_blob(&blob.digest, blob.size, limit).await;
        bytes.map_err(|error| self.failed_at(error, "max_manifest_bytes"))
    }

    fn refused(&self, refused: Refused) -> PullError {
        match refused {
            Refused::Invalid(reason) => self.invalid(reason),
            Refused::Unsupported(reason) => PullError::Unsupported { reference: self.text(), reason },
        }
    }

    /// What an artifact calls wasm must be.
    fn all_wasm(&self, image: &Image, sources: &[LayerSource]) -> Result<(), PullError> {
        for source in sources {
            let LayerSource::Module { file_name, blob } = source else { continue };
            let path = artifact::module_path(file_name);
            if image.wasm.iter().any(|file| file.path == path) {
                continue;
            }
            let located = files::locate(&self.inner.store.lower_dirs(image), &path);
            let kind = located.and_then(|located| files::kind(&located, || None));
            let unsupported = |what: &str| {
                let reason = format!("its file {file_name:?} is {what}");
                PullError::Unsupported { reference: self.text(), reason }
            };
            return Err(match kind {
                Ok(FileKind::Precompiled) => unsupported("precompiled code, which is not run from images; ship the .wasm"),
                Ok(FileKind::Elf) => unsupported("a native Linux program; this runtime runs WebAssembly"),
                _ if artifact::is_named_text(&path) && blob.size > artifact::MAX_TEXT => {
                    self.too_large(&format!("the text {file_name:?}"), artifact::MAX_TEXT, "fixed; ship the .wasm")
                }
                _ => self.invalid(format!("its layer {file_name:?} says it is wasm, and is not")),
            });
        }
        Ok(())
    }
}

/// An image's parts, of an artifact.
type Parts = (ArtifactKind, Vec<LayerSource>, ImageConfig, (String, String));

fn modules(contents: artifact::Contents, config: &[u8]) -> Parts {
    let kind = contents.kind();
    let sources =
        contents.modules.into_iter().map(|module| LayerSource::Module { blob: module.blob, file_name: module.file_name });
    (kind, sources.collect(), contents.config, artifact::platform(config))
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
