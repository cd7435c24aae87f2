//! A pull: reference, manifest, blobs, layers, code, record, in this order. Nothing is visible before the last step,
//! and what the steps before it made is taken away again if one fails.

mod download;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::try_join_all;

use crate::api::Inner;
use crate::artifact::{self, Packaging, Refused};
use crate::auth::{Auth, Credentials};
use crate::digest::Digest;
use crate::error::{CodeError, DiskError, PullError};
use crate::files;
use crate::image::{ArtifactKind, Image, ImageConfig, WasmFile};
use crate::layer::Layer;
use crate::manifest::{self, Descriptor, Document, Manifest};
use crate::reference::Reference;
use crate::registry::{RegistryError, Session};
use crate::store::{Item, NewImage, Pins};
use crate::unpack::UnpackError;
pub(crate) use download::{LayerError, LayerSource};

/// One pull under way.
struct Pull {
    inner: Arc<Inner>,
    reference: Reference,
    session: Arc<Session>,
    pins: Arc<Pins>,
}

/// A platform's manifest, as it came.
struct Resolved {
    manifest: Manifest,
    digest: Digest,
    /// What the tag named or the user asked for: an index's digest where there is one.
    named: Digest,
    blobs: Vec<(Digest, Vec<u8>)>,
}

/// Pulls an image. The registry is always asked, also for what is here: whether these credentials may have the image is
/// its decision, and the kubelet relies on the answer.
pub(crate) async fn pull(inner: Arc<Inner>, reference: Reference, auth: Option<Auth>) -> Result<Arc<Image>, PullError> {
    let text = reference.to_string();
    let credentials = match auth.unwrap_or_default().for_registry(reference.registry()) {
        Ok(credentials) => credentials,
        Err(detail) => {
            return Err(PullError::Unauthorized { reference: text, registry: reference.registry().to_owned(), detail });
        }
    };
    tracing::info!(reference = text, with_credentials = credentials != Credentials::Anonymous, "pulling");
    let begun = std::time::Instant::now();
    let session = inner.registries.session(&reference, credentials).await;
    let session = session.map_err(|error| registry_error(&text, reference.registry(), error))?;
    let pull = Pull { pins: Arc::new(Pins::new(&inner.store)), inner, reference, session: Arc::new(session) };
    let image = pull.run().await.inspect_err(|error| {
        if matches!(error, PullError::RegistryUnavailable { .. }) {
            pull.inner.registries.forget(pull.session.host());
        }
        tracing::warn!(%error, "pull failed");
    })?;
    tracing::info!(reference = text, id = image.id, size = image.size, ms = begun.elapsed().as_millis() as u64, "pulled");
    Ok(image)
}

impl Pull {
    async fn run(&self) -> Result<Arc<Image>, PullError> {
        let resolved = self.resolve().await?;
        for (digest, _) in &resolved.blobs {
            self.pins.add(Item::Blob(digest.clone()));
        }
        let mut blobs = resolved.blobs.clone();
        let mut image = match self.inner.store.complete(resolved.digest.as_str(), &self.pins) {
            Some(image) => image,
            None => self.fetch(&resolved, &mut blobs).await?,
        };
        self.compile(&image).await?;
        image.repo_digests = vec![format!("{}@{}", self.reference.name(), resolved.named)];
        let (store, pins, tag) = (self.inner.store.clone(), self.pins.clone(), self.reference.tagged());
        let registered = tokio::task::spawn_blocking(move || store.register(NewImage { image, blobs, tag }, pins)).await;
        let registered = registered
            .unwrap_or_else(|error| Err(DiskError::new("register", &self.inner.config.root, std::io::Error::other(error))));
        registered.map_err(|io| PullError::Io { reference: self.text(), io })
    }

    /// Follows the reference to one platform's manifest.
    async fn resolve(&self) -> Result<Resolved, PullError> {
        let limit = self.inner.config.limits.manifest_bytes;
        let (bytes, named) = self.session.manifest(self.reference.target(), limit).await.map_err(|error| self.failed(error))?;
        let document = manifest::parse(&bytes).map_err(|reason| self.invalid(reason))?;
        let mut blobs = vec![(named.clone(), bytes)];
        let manifest = match document {
            Document::Manifest(manifest) => {
                return Ok(Resolved { manifest, digest: named.clone(), named, blobs });
            }
            Document::Index(entries) => manifest::choose(&entries, manifest::our_architecture())
                .map_err(|reason| PullError::Unsupported { reference: self.text(), reason })?
                .clone(),
        };
        let found = self.session.manifest(manifest.digest.as_str(), limit).await;
        let (bytes, digest) = found.map_err(|error| self.failed(error))?;
        match manifest::parse(&bytes).map_err(|reason| self.invalid(reason))? {
            Document::Manifest(manifest) => {
                blobs.push((digest.clone(), bytes));
                Ok(Resolved { manifest, digest, named, blobs })
            }
            Document::Index(_) => Err(self.invalid("its index leads to another index".to_owned())),
        }
    }

    /// Brings the configuration and the layers.
    async fn fetch(&self, resolved: &Resolved, blobs: &mut Vec<(Digest, Vec<u8>)>) -> Result<Image, PullError> {
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

    /// Every wasm file, each content once.
    async fn compile(&self, image: &Image) -> Result<(), PullError> {
        let mut files: Vec<&WasmFile> = image.wasm.iter().collect();
        files.sort_by(|one, other| one.digest.cmp(&other.digest));
        files.dedup_by(|one, other| one.digest == other.digest);
        for file in &files {
            if let Ok(digest) = Digest::parse(&file.digest) {
                self.pins.add(Item::Code(digest));
            }
        }
        let compiled = files.iter().map(|file| async move {
            let host = self.inner.host_path(image, &file.path);
            let code = match (host, Digest::parse(&file.digest)) {
                (Some(host), Ok(digest)) => {
                    let pins = self.pins.clone();
                    self.inner.store.code.get(&self.inner.code_flights, digest, host, pins).await
                }
                _ => Err(CodeError::Unknown { digest: file.digest.clone() }),
            };
            code.map_err(|error| self.code_failed(file, error))
        });
        try_join_all(compiled).await.map(drop)
    }

    fn text(&self) -> String {
        self.reference.to_string()
    }

    fn invalid(&self, reason: String) -> PullError {
        PullError::InvalidArtifact { reference: self.text(), reason }
    }

    fn too_large(&self, what: &str, limit: u64, option: &'static str) -> PullError {
        PullError::TooLarge { reference: self.text(), what: what.to_owned(), limit, option }
    }

    fn failed(&self, error: RegistryError) -> PullError {
        self.failed_at(error, "max_manifest_bytes")
    }

    fn failed_at(&self, error: RegistryError, option: &'static str) -> PullError {
        match error {
            RegistryError::TooLarge { what, limit } => self.too_large(&what, limit, option),
            error => registry_error(&self.text(), self.session.host(), error),
        }
    }

    fn layer_failed(&self, error: LayerError) -> PullError {
        let reference = self.text();
        match error {
            // The manifest says how long the blob is, so this is no cap of ours.
            LayerError::Registry(RegistryError::TooLarge { what, limit }) => {
                let detail = format!("{what}: more bytes were sent than the {limit} that the manifest says");
                PullError::RegistryUnavailable { reference, registry: self.session.host().to_owned(), detail }
            }
            LayerError::Registry(error) => registry_error(&reference, self.session.host(), error),
            LayerError::Disk(io) | LayerError::Unpack(_, UnpackError::Disk(io)) => PullError::Io { reference, io },
            LayerError::Unpack(blob, UnpackError::Invalid(reason)) => self.invalid(format!("layer {blob}: {reason}")),
            LayerError::Unpack(blob, UnpackError::TooLarge { what, limit, option }) => {
                self.too_large(&format!("layer {blob}: {what}"), limit, option)
            }
            LayerError::Unpack(blob, UnpackError::DiffId { expected, actual }) => {
                self.invalid(format!("layer {blob} unpacks to {actual}, its configuration says {expected}"))
            }
            LayerError::Unpack(blob, UnpackError::Cancelled) => self.invalid(format!("layer {blob} was given up")),
        }
    }

    fn code_failed(&self, file: &WasmFile, error: CodeError) -> PullError {
        let reference = self.text();
        match error {
            CodeError::Compile { reason, .. } => PullError::Compile { reference, path: file.path.display().to_string(), reason },
            CodeError::Io(io) => PullError::Io { reference, io },
            other => self.invalid(other.to_string()),
        }
    }
}

fn registry_error(reference: &str, registry: &str, error: RegistryError) -> PullError {
    let (reference, registry) = (reference.to_owned(), registry.to_owned());
    match error {
        RegistryError::NotFound { what } => PullError::NotFound { reference, registry, what },
        RegistryError::Unauthorized(detail) => PullError::Unauthorized { reference, registry, detail },
        RegistryError::Unavailable(detail) => PullError::RegistryUnavailable { reference, registry, detail },
        RegistryError::TooLarge { what, limit } => PullError::TooLarge { reference, what, limit, option: "max_layer_bytes" },
        RegistryError::Mismatch { what, expected, actual } => {
            PullError::DigestMismatch { reference, registry, what, expected, actual }
        }
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
