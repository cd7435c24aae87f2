//! What is said of manifests that hold neither wasm nor a file system: registries keep charts, signatures and lists of
//! parts under the same kind of name as images, and a slip in a tag leads to one.

use crate::manifest::Manifest;

/// Why a manifest is of no use; clauses.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    Invalid(String),
    Unsupported(String),
}

const EXPECTED: &str = "expected is a wasm artifact (a layer of type application/wasm, or one with a title that ends in .wasm \
                        or .wat) or an OCI or Docker image";

/// Parts of media types, and what people call what has them.
const KNOWN: [(&str, &str); 11] = [
    ("cncf.helm", "a Helm chart"),
    ("docker.plugin", "a Docker plugin"),
    ("cosign.simplesigning", "a cosign signature"),
    ("sigstore.bundle", "a sigstore bundle"),
    ("cncf.notary.signature", "a Notation signature"),
    ("in-toto", "an attestation"),
    ("spdx", "a list of parts (SBOM)"),
    ("cyclonedx", "a list of parts (SBOM)"),
    ("wasmcloud.provider", "a native provider of wasmCloud"),
    ("cncf.flux", "a Flux artifact"),
    ("cncf.model", "a model"),
];

/// Types that an error names; a manifest may have thousands.
const SHOWN: usize = 6;

/// Nothing of this manifest is known.
pub(crate) fn foreign(manifest: &Manifest) -> Refused {
    let mut types: Vec<&str> = Vec::new();
    let layers = manifest.layers.iter().map(|layer| layer.media_type.as_str());
    for name in manifest.artifact_type.as_deref().into_iter().chain([manifest.config.media_type.as_str()]).chain(layers) {
        if types.len() < SHOWN && !name.is_empty() && !types.contains(&name) {
            types.push(name);
        }
    }
    let what = KNOWN.iter().find(|(part, _)| types.iter().any(|name| name.contains(part)));
    let what = what.map_or_else(String::new, |(_, what)| format!("{what}, "));
    let types = types.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    Refused::Unsupported(format!("it is {what}of the types {types}; {EXPECTED}"))
}

/// An image, but for one layer.
pub(crate) fn layer(media_type: &str) -> Refused {
    Refused::Unsupported(format!(
        "it is an image with a layer of the unknown type {}; layers are tar archives, plain, gzip or zstd",
        shown(media_type)
    ))
}

/// Foreign text in an error: short, and without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(128).collect()
}
