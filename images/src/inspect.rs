//! Everything about an image in one answer, for `ImageStatus` with `verbose`. Made from memory and small files; no
//! code and no layer is read.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::api::Inner;
use crate::code::CodeReport;
use crate::digest::Digest;
use crate::files;
use crate::image::{ArtifactKind, Image, ImageConfig};

/// An image and what lies on the disk of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageDetails {
    /// Digest of the platform's manifest; the image's id.
    pub manifest_digest: String,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// `name@digest`, with the digests that names led to.
    pub named_digests: Vec<String>,
    /// The manifest's platform.
    pub os: String,
    /// The manifest's architecture.
    pub architecture: String,
    /// How the wasm was packed.
    pub kind: ArtifactKind,
    /// How the image says that it is run.
    pub config: ImageConfig,
    /// Bytes as they were sent.
    pub size: u64,
    /// Lowest first.
    pub layers: Vec<LayerDetails>,
    /// By path, each content once.
    pub wasm: Vec<WasmDetails>,
    /// In seconds since 1970.
    pub pulled_at: u64,
    /// Whether the configuration pins it.
    pub pinned: bool,
}

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerDetails {
    /// Its directory in the store: the diff-id's digits, or of an artifact a name made from its file's.
    pub name: String,
    /// On the disk; nothing where the layer is damaged.
    pub bytes: Option<u64>,
    /// On the disk; nothing where the layer is damaged.
    pub inodes: Option<u64>,
}

/// A wasm file of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmDetails {
    /// Absolute path in the image, the first of several.
    pub path: PathBuf,
    /// Further paths of the same content: an image of a multi-call program has a hundred hard links to one file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub same: Vec<PathBuf>,
    /// `sha256:…` of the file.
    pub digest: String,
    /// Bytes of the file; nothing where the layer is damaged.
    pub size: Option<u64>,
    /// Whether there is code for this engine. It is checked when it is used.
    pub compiled: bool,
    /// What the compiler found out, where there is code.
    pub report: Option<CodeReport>,
    /// Why it does not compile, where that was found out since the daemon started.
    pub rejected: Option<String>,
}

/// Puts it together, on a thread of its own.
pub(crate) async fn inspect(inner: &Arc<Inner>, image: Arc<Image>) -> ImageDetails {
    let (worker, seen) = (inner.clone(), image.clone());
    let parts = tokio::task::spawn_blocking(move || (layers(&worker, &seen), wasm(&worker, &seen))).await;
    let (layers, wasm) = parts.unwrap_or_default();
    ImageDetails {
        manifest_digest: image.id.clone(),
        repo_tags: image.repo_tags.clone(),
        named_digests: image.repo_digests.clone(),
        os: image.os.clone(),
        architecture: image.architecture.clone(),
        kind: image.kind.clone(),
        config: image.config.clone(),
        size: image.size,
        layers,
        wasm,
        pulled_at: image.pulled_at,
        pinned: inner.rules.is_pinned(&image),
    }
}

fn layers(inner: &Inner, image: &Image) -> Vec<LayerDetails> {
    let details = |name: &String| {
        let layer = inner.store.layer(name);
        let (bytes, inodes) = layer.map(|layer| (layer.bytes, layer.inodes)).unzip();
        LayerDetails { name: name.clone(), bytes, inodes }
    };
    image.layers.iter().map(details).collect()
}

fn wasm(inner: &Inner, image: &Image) -> Vec<WasmDetails> {
    let lower_dirs = inner.store.lower_dirs(image);
    let mut details: Vec<WasmDetails> = Vec::new();
    let mut places = HashMap::new();
    for file in &image.wasm {
        let place = *places.entry(file.digest.as_str()).or_insert(details.len());
        if let Some(first) = details.get_mut(place) {
            first.same.push(file.path.clone());
            continue;
        }
        let size = files::locate(&lower_dirs, &file.path).ok().map(|located| located.metadata.len());
        let digest = Digest::parse(&file.digest).ok();
        let report = digest.as_ref().and_then(|digest| inner.store.code.report(digest));
        let rejected = digest.as_ref().and_then(|digest| inner.store.code.rejected(digest));
        let (path, digest) = (file.path.clone(), file.digest.clone());
        details.push(WasmDetails { path, same: Vec::new(), digest, size, compiled: report.is_some(), report, rejected });
    }
    details
}
