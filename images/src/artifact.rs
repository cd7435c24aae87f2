//! Packagings: which manifests are wasm files, which are a file system, and which are neither.
//!
//! The layers' media types decide, not the configuration's: tools agree on the former more than on the latter. A layer
//! named as wasm makes an artifact, layers named as tar archives an image. Where a tool gives no type at all, a title
//! that ends in `.wasm` or `.wat` stands for one. Whether the bytes are wasm is seen when they are here.

mod bytes;
mod refusal;
pub(crate) mod spin;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub(crate) use bytes::{MAX_TEXT, START, Start, is_named_text};
pub(crate) use refusal::Refused;

use crate::digest::Digest;
use crate::image::{ArtifactKind, ImageConfig};
use crate::manifest::{self, Descriptor, Manifest};

/// The configuration of the CNCF TAG Runtime's artifact, which must have a wasm layer.
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const IMAGE_CONFIGS: [&str; 2] = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const TAR_LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
/// What tools say where nobody told them a type; `oras push` says that it is a tar archive.
const NO_TYPE: [&str; 3] = ["", "application/octet-stream", "text/plain"];

/// Name of the file where the artifact gives none.
const DEFAULT_NAME: &str = "main.wasm";

/// What a manifest turns out to be.
#[derive(Debug)]
pub(crate) enum Packaging<'a> {
    /// One wasm file.
    Module { layer: &'a Descriptor, file_name: String },
    /// An application of Spin; this layer describes it, or the configuration where there is none.
    Spin { application: Option<&'a Descriptor> },
    /// A file system.
    Image,
}

/// What an artifact brings.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) modules: Vec<Module>,
    pub(crate) config: ImageConfig,
}

/// A blob that is one wasm file.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) blob: Descriptor,
    pub(crate) file_name: String,
}

impl Contents {
    /// One module runs by itself; of several, the container says which.
    pub(crate) fn kind(&self) -> ArtifactKind {
        match self.modules.as_slice() {
            [only] => ArtifactKind::Artifact { module: Some(module_path(&only.file_name)) },
            _ => ArtifactKind::Artifact { module: None },
        }
    }
}

/// Tells what a manifest is, as far as its media types and titles say.
pub(crate) fn recognise(manifest: &Manifest) -> Result<Packaging<'_>, Refused> {
    if let Some(application) = spin::application(manifest) {
        return Ok(Packaging::Spin { application: Some(application) });
    }
    if manifest.config.media_type == spin::APPLICATION {
        return Ok(Packaging::Spin { application: None });
    }
    let wasm: Vec<&Descriptor> = manifest.layers.iter().filter(|layer| is_wasm_type(&layer.media_type)).collect();
    if !wasm.is_empty() {
        return one(&wasm);
    }
    if manifest.config.media_type == WASM_CONFIG {
        return Err(Refused::Invalid("it is a wasm artifact without a layer of type application/wasm".to_owned()));
    }
    if IMAGE_CONFIGS.contains(&manifest.config.media_type.as_str()) {
        // Signatures and attestations have an image's configuration too.
        return match manifest.layers.iter().find(|layer| !is_tar(&layer.media_type) && !is_titled(layer)) {
            None => Ok(Packaging::Image),
            Some(_) if manifest.layers.iter().all(|layer| !is_tar(&layer.media_type)) => Err(refusal::foreign(manifest)),
            Some(layer) => Err(refusal::layer(&layer.media_type)),
        };
    }
    titled(manifest)?.ok_or_else(|| refusal::foreign(manifest))
}

impl<'a> Packaging<'a> {
    /// An image without any diff-id is none: so `oras push --artifact-platform` packs a file.
    pub(crate) fn seen_with(self, manifest: &'a Manifest, config: &[u8]) -> Result<Packaging<'a>, Refused> {
        let Packaging::Image = self else { return Ok(self) };
        if manifest::parse_config(config).is_ok_and(|file| file.diff_ids.is_empty())
            && let Some(module) = titled(manifest)?
        {
            return Ok(module);
        }
        match manifest.layers.iter().find(|layer| !is_tar(&layer.media_type)) {
            Some(layer) => Err(refusal::layer(&layer.media_type)),
            None => Ok(Packaging::Image),
        }
    }
}

/// What an artifact of one module brings.
pub(crate) fn contents(manifest: &Manifest, layer: &Descriptor, file_name: String, config: &[u8]) -> Contents {
    check_layer_digests(layer, config);
    // An entrypoint has nothing to say here; the rest of an image's configuration has, where a tool writes one.
    let said = match manifest::parse_config(config) {
        Ok(file) if IMAGE_CONFIGS.contains(&manifest.config.media_type.as_str()) => file.config,
        _ => ImageConfig::default(),
    };
    let mut labels = said.labels;
    labels.extend(manifest.annotations.clone());
    let config = ImageConfig { labels, entrypoint: Vec::new(), cmd: Vec::new(), ..said };
    Contents { modules: vec![Module { blob: layer.bare(), file_name }], config }
}

/// The platform of an artifact; Spin writes `Wasip1`.
pub(crate) fn platform(config: &[u8]) -> (String, String) {
    manifest::parse_config(config)
        .map(|file| (file.os.to_ascii_lowercase(), file.architecture.to_ascii_lowercase()))
        .unwrap_or_default()
}

/// The CNCF's configuration names its layers so that it is one of a kind. The manifest's digests are what is fetched and
/// checked, so a configuration that was copied from another artifact does no harm.
fn check_layer_digests(layer: &Descriptor, config: &[u8]) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Config {
        #[serde(default)]
        layer_digests: Vec<String>,
    }
    let digests = serde_json::from_slice(config).map(|config: Config| config.layer_digests).unwrap_or_default();
    if !digests.is_empty() && !digests.iter().any(|digest| digest == layer.digest.as_str()) {
        tracing::warn!(layer = %layer.digest, "the artifact's configuration is about other layers");
    }
}

/// `application/wasm`, and what tools had before: wasm-to-oci, wasmCloud, wasme, runwasi and others, all `…+wasm`.
fn is_wasm_type(media_type: &str) -> bool {
    media_type == "application/wasm" || media_type.ends_with("+wasm")
}

/// Whether a layer is a tar archive; how it is compressed is seen from its bytes, since tools mislabel that.
fn is_tar(media_type: &str) -> bool {
    TAR_LAYERS.iter().any(|known| match media_type.strip_prefix(known) {
        Some(rest) => matches!(rest, "" | "+gzip" | "+zstd" | ".gzip" | ".zstd"),
        None => false,
    })
}

/// Whether a layer says that it is a wasm file by its title only.
fn is_titled(layer: &Descriptor) -> bool {
    let name = file_name(layer);
    let named = name.ends_with(".wasm") || name.ends_with(".wat");
    layer.annotation(TITLE).is_some() && named && (is_tar(&layer.media_type) || NO_TYPE.contains(&layer.media_type.as_str()))
}

fn titled(manifest: &Manifest) -> Result<Option<Packaging<'_>>, Refused> {
    let titled: Vec<&Descriptor> = manifest.layers.iter().filter(|layer| is_titled(layer)).collect();
    if titled.is_empty() { Ok(None) } else { one(&titled).map(Some) }
}

/// The CNCF's layout lets a reader refuse more than one layer: which one is to run is not said.
fn one<'a>(layers: &[&'a Descriptor]) -> Result<Packaging<'a>, Refused> {
    match layers {
        [layer] => Ok(Packaging::Module { layer, file_name: file_name(layer) }),
        several => {
            let count = several.len();
            Err(Refused::Unsupported(format!("it is an artifact of {count} wasm files; one is supported, or an OCI image")))
        }
    }
}

const TITLE: &str = "org.opencontainers.image.title";

/// The last component of the title annotation, if it can be a file's name in any layer.
fn file_name(layer: &Descriptor) -> String {
    let name = layer.annotation(TITLE).unwrap_or_default().rsplit('/').next().unwrap_or_default();
    if usable_name(name) { name.to_owned() } else { DEFAULT_NAME.to_owned() }
}

/// Whether a foreign text can be a file's name in any layer.
fn usable_name(name: &str) -> bool {
    let special = matches!(name, "" | "." | "..") || name.starts_with(".wh.");
    !special && name.len() <= 255 && !name.contains(|character: char| character == '/' || character.is_control())
}

/// Name of the layer directory that holds an artifact's one file. File name and digest both make it: the same module
/// may be shipped under two names. It cannot meet a diff-id, which is the digest of a tar archive.
pub(crate) fn layer_name(file_name: &str, digest: &Digest) -> String {
    Digest::of(format!("cri-wasm artifact\0{file_name}\0{digest}").as_bytes()).hex().to_owned()
}

/// The path of an artifact's file in the root file system.
pub(crate) fn module_path(file_name: impl AsRef<OsStr>) -> PathBuf {
    Path::new("/").join(file_name.as_ref())
}

#[cfg(test)]
mod tests;
