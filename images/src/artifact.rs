//! Packagings: which manifests are one wasm file, which are a file system, and which are neither.
//!
//! The layers' media types decide, not the configuration's: tools agree on the former more than on the latter.
//! A layer named as wasm makes a bare artifact; layers named as tar archives make an image.

use std::ffi::OsStr;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};

/// The wasm artifact of the CNCF's TAG Runtime: configuration and layer.
pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM_LAYERS: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];

const IMAGE_CONFIGS: [&str; 2] = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const TAR_LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// Name of the file where the artifact gives none.
const DEFAULT_NAME: &str = "main.wasm";

/// What a manifest turns out to be.
#[derive(Debug)]
pub(crate) enum Packaging<'a> {
    Artifact { layer: &'a Descriptor, file_name: String },
    Image,
}

/// Why a manifest is of no use; clauses.
#[derive(Debug)]
pub(crate) enum Refused {
    Invalid(String),
    Unsupported(String),
}

pub(crate) fn recognise(manifest: &Manifest) -> Result<Packaging<'_>, Refused> {
    let wasm: Vec<&Descriptor> =
        manifest.layers.iter().filter(|layer| WASM_LAYERS.contains(&layer.media_type.as_str())).collect();
    match wasm.as_slice() {
        [layer] => return Ok(Packaging::Artifact { layer, file_name: file_name(layer) }),
        [] => {}
        several => {
            return Err(Refused::Unsupported(format!("it is an artifact of {} wasm files; one is supported", several.len())));
        }
    }
    if manifest.config.media_type == WASM_CONFIG {
        return Err(Refused::Invalid("it is a wasm artifact without a layer of type application/wasm".to_owned()));
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| !is_tar(&layer.media_type)) {
        return Err(Refused::Unsupported(format!("it has a layer of the unknown type {:?}", layer.media_type)));
    }
    if !IMAGE_CONFIGS.contains(&manifest.config.media_type.as_str()) {
        return Err(Refused::Unsupported(format!("it has a configuration of the unknown type {:?}", manifest.config.media_type)));
    }
    Ok(Packaging::Image)
}

/// Whether a layer is a tar archive; how it is compressed is seen from its bytes, since tools mislabel that.
fn is_tar(media_type: &str) -> bool {
    TAR_LAYERS.iter().any(|known| match media_type.strip_prefix(known) {
        Some(rest) => matches!(rest, "" | "+gzip" | "+zstd" | ".gzip" | ".zstd"),
        None => false,
    })
}

/// The last component of the title annotation, if it can be a file's name in any layer.
fn file_name(layer: &Descriptor) -> String {
    let title = layer.annotation("org.opencontainers.image.title").unwrap_or_default();
    let name = title.rsplit('/').next().unwrap_or_default();
    let usable =
        !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.starts_with(".wh.") && !name.contains(char::is_control);
    if usable { name.to_owned() } else { DEFAULT_NAME.to_owned() }
}

/// Name of the layer directory that holds an artifact's one file. File name and digest both make it: the same module
/// may be shipped under two names. It cannot meet a diff-id, which is the digest of a tar archive.
pub(crate) fn layer_name(file_name: &str, digest: &Digest) -> String {
    Digest::of(format!("cri-wasm artifact\0{file_name}\0{digest}").as_bytes()).hex().to_owned()
}

/// Whether bytes begin a wasm module or component.
pub(crate) fn is_wasm(start: &[u8]) -> bool {
    start.starts_with(b"\0asm")
}

/// The path of an artifact's file in the root file system.
pub(crate) fn module_path(file_name: impl AsRef<OsStr>) -> std::path::PathBuf {
    std::path::Path::new("/").join(file_name.as_ref())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn descriptor(media_type: &str, title: Option<&str>) -> Descriptor {
        let annotations = title.map(|title| BTreeMap::from([("org.opencontainers.image.title".to_owned(), title.to_owned())]));
        Descriptor { media_type: media_type.to_owned(), digest: Digest::of(b"x"), size: 1, annotations, platform: None }
    }

    fn manifest(config: &str, layers: &[&str]) -> Manifest {
        let layers = layers.iter().map(|layer| descriptor(layer, None)).collect();
        Manifest { config: descriptor(config, None), layers, annotations: BTreeMap::new() }
    }

    #[test]
    fn each_packaging_is_recognised() {
        assert!(matches!(recognise(&manifest(WASM_CONFIG, &["application/wasm"])), Ok(Packaging::Artifact { .. })));
        for layer in ["application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.gzip"] {
            let made = manifest("application/vnd.docker.container.image.v1+json", &[layer]);
            assert!(matches!(recognise(&made), Ok(Packaging::Image)), "{layer}");
        }
    }

    #[test]
    fn what_is_neither_wasm_nor_a_file_system_is_refused_by_name() {
        for (config, layers, named) in [
            (WASM_CONFIG, vec!["application/octet-stream"], "application/wasm"),
            (
                "application/vnd.cncf.helm.config.v1+json",
                vec!["application/vnd.cncf.helm.chart.content.v1.tar+gzip"],
                "helm.chart",
            ),
            ("application/vnd.cncf.helm.config.v1+json", vec![], "helm.config"),
            (WASM_CONFIG, vec!["application/wasm", "application/wasm"], "2 wasm files"),
        ] {
            let manifest = manifest(config, &layers);
            let (Refused::Invalid(text) | Refused::Unsupported(text)) = recognise(&manifest).unwrap_err();
            assert!(text.contains(named), "{text}");
        }
    }

    #[test]
    fn a_hostile_title_never_leaves_the_layer() {
        for (title, name) in [
            (Some("dir/app.wasm"), "app.wasm"),
            (Some("../../etc/passwd"), "passwd"),
            (Some(".."), DEFAULT_NAME),
            (Some("a/"), DEFAULT_NAME),
            (Some(".wh.x"), DEFAULT_NAME),
            (Some("a\0b"), DEFAULT_NAME),
            (None, DEFAULT_NAME),
        ] {
            assert_eq!(file_name(&descriptor("application/wasm", title)), name);
        }
    }
}
