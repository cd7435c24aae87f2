//! Manifests, indexes and configurations: foreign JSON, read leniently in what we do not use and strictly in what
//! decides which bytes are fetched.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;
use crate::image::ImageConfig;

/// What is asked of a registry's `manifests/` endpoint.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Values in a document. One takes some hundred bytes of memory where it took ten of the document, so a cap on the
/// document's bytes alone lets it grow to a hundred MB. Real ones have some hundred.
const MAX_VALUES: usize = 20_000;

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one for each pull, and it is taken apart at once")]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// What an artifact without a configuration is.
    pub(crate) artifact_type: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) artifact_type: Option<String>,
}

impl Descriptor {
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// What is needed to fetch it. The rest is foreign text of any length, which is not to be kept once for each use.
    pub(crate) fn bare(&self) -> Descriptor {
        let (digest, size) = (self.digest.clone(), self.size);
        Descriptor { media_type: String::new(), digest, size, annotations: None, platform: None, artifact_type: None }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
}

/// Reads a manifest or an index; the error is a clause.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Either {
        schema_version: u32,
        media_type: Option<String>,
        config: Option<Descriptor>,
        layers: Option<Vec<Descriptor>>,
        manifests: Option<Vec<Descriptor>>,
        annotations: Option<BTreeMap<String, String>>,
        artifact_type: Option<String>,
    }
    // Schema 1 has other types in the same fields, so it is recognised before it fails to parse as something else.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u32,
    }
    check_values("manifest", bytes)?;
    let version: Version = serde_json::from_slice(bytes).map_err(|error| format!("the manifest is not one: {error}"))?;
    if version.schema_version == 1 {
        return Err("the manifest is of Docker's schema 1, which is out of use since 2017; push the image again".to_owned());
    }
    let either: Either = serde_json::from_slice(bytes).map_err(|error| format!("the manifest is not one: {error}"))?;
    if either.schema_version != 2 {
        return Err(format!("the manifest has schema version {}, known is 2", either.schema_version));
    }
    if either.media_type.as_deref() == Some("application/vnd.oci.artifact.manifest.v1+json") {
        return Err(
            "the manifest is of OCI's artifact type, which was withdrawn in 2023; push it again with a newer tool".to_owned()
        );
    }
    let says_index = either.media_type.as_deref().map(|media| media.contains("index") || media.contains("manifest.list"));
    match (either.config, either.layers, either.manifests) {
        // A document that reads as both would mean one thing to us and another to who signed it (CVE-2021-41190).
        (Some(config), Some(layers), None) if says_index != Some(true) => {
            let annotations = either.annotations.unwrap_or_default();
            Ok(Document::Manifest(Manifest { config, layers, annotations, artifact_type: either.artifact_type }))
        }
        (None, None, Some(manifests)) if says_index != Some(false) => Ok(Document::Index(manifests)),
        _ => Err("the manifest has not the fields of its type".to_owned()),
    }
}

/// Counts the values of a document by its commas outside of texts, before anything is made of them.
fn check_values(what: &str, bytes: &[u8]) -> Result<(), String> {
    let (mut in_text, mut escaped, mut values) = (false, false, 1);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' if !in_text => values += 1,
            _ => {}
        }
    }
    if values > MAX_VALUES { Err(format!("the {what} has {values} values, at most {MAX_VALUES} are read")) } else { Ok(()) }
}

/// The entry of an index to use: a wasm platform first, whatever its order, then a wasm artifact without a platform, then
/// `linux` on our architecture, then the only entry that is left. Variants (`v7`) are not looked at.
/// The error lists what was there.
pub(crate) fn choose<'a>(entries: &'a [Descriptor], architecture: &str) -> Result<&'a Descriptor, String> {
    let entries: Vec<&Descriptor> = entries.iter().filter(|entry| !is_attestation(entry)).collect();
    let best = entries.iter().filter_map(|entry| rank(entry, architecture).map(|rank| (rank, *entry)));
    if let Some((_, entry)) = best.min_by_key(|(rank, _)| *rank) {
        return Ok(entry);
    }
    // An index around one manifest, as some tools push artifacts.
    if let [entry] = entries.as_slice()
        && entry.platform.is_none()
    {
        return Ok(entry);
    }
    let mut there: Vec<String> = entries.iter().map(|entry| name_of(entry)).collect();
    there.sort();
    there.dedup();
    there.truncate(32);
    let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
    Err(format!("it has no variant for wasi/wasm and none for linux/{architecture}, only: {there}"))
}

/// The smaller the better.
fn rank(entry: &Descriptor, architecture: &str) -> Option<u8> {
    let Some(platform) = &entry.platform else {
        let wasm = entry.artifact_type.as_deref().is_some_and(|name| name.contains("wasm") && !name.contains("signature"));
        return wasm.then_some(4);
    };
    match (platform.os.to_ascii_lowercase().as_str(), platform.architecture.to_ascii_lowercase().as_str()) {
        // Go's platform for browsers.
        ("js", _) => None,
        ("wasi", "wasm" | "wasm32") => Some(0),
        ("wasip2", "wasm" | "wasm32") => Some(1),
        ("wasip1", "wasm" | "wasm32") => Some(2),
        (_, "wasm" | "wasm32") => Some(3),
        ("linux", ours) if ours == architecture => Some(5),
        _ => None,
    }
}

/// What buildkit puts beside each image about how it was made.
fn is_attestation(entry: &Descriptor) -> bool {
    let unknown = |platform: &Platform| platform.os == "unknown" && platform.architecture == "unknown";
    entry.platform.as_ref().is_some_and(unknown) || entry.annotation("vnd.docker.reference.type") == Some("attestation-manifest")
}

fn name_of(entry: &Descriptor) -> String {
    let name = match (&entry.platform, &entry.artifact_type) {
        (Some(platform), _) => format!("{}/{}", platform.os, platform.architecture),
        (None, Some(artifact)) => format!("an artifact of type {artifact}"),
        (None, None) => "a manifest without a platform".to_owned(),
    };
    name.chars().filter(|character| !character.is_control()).take(128).collect()
}

/// This machine's architecture in the names that image indexes use.
pub(crate) fn our_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// An OCI or Docker image configuration.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) config: ImageConfig,
}

/// Reads an image configuration; the error is a clause.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ConfigFile, String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        os: Option<String>,
        #[serde(default)]
        architecture: Option<String>,
        rootfs: Option<RootFs>,
        config: Option<Inner>,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Option<Vec<Digest>>,
    }
    // Docker writes null where it means nothing, hence every field is optional.
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "PascalCase")]
    struct Inner {
        user: Option<String>,
        env: Option<Vec<String>>,
        entrypoint: Option<Vec<String>>,
        cmd: Option<Vec<String>>,
        working_dir: Option<String>,
        labels: Option<BTreeMap<String, String>>,
        stop_signal: Option<String>,
    }
    check_values("configuration", bytes)?;
    let file: File = serde_json::from_slice(bytes).map_err(|error| format!("the configuration is not one: {error}"))?;
    let inner = file.config.unwrap_or_default();
    Ok(ConfigFile {
        os: file.os.unwrap_or_default(),
        architecture: file.architecture.unwrap_or_default(),
        diff_ids: file.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default(),
        config: ImageConfig {
            entrypoint: inner.entrypoint.unwrap_or_default(),
            cmd: inner.cmd.unwrap_or_default(),
            env: inner.env.unwrap_or_default(),
            working_dir: inner.working_dir.unwrap_or_default(),
            user: inner.user.unwrap_or_default(),
            labels: inner.labels.unwrap_or_default(),
            stop_signal: inner.stop_signal.unwrap_or_default(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn index(platforms: &[(&str, &str)]) -> Vec<Descriptor> {
        platforms
            .iter()
            .map(|(os, architecture)| Descriptor {
                media_type: String::new(),
                digest: Digest::of(format!("{os}/{architecture}").as_bytes()),
                size: 1,
                annotations: None,
                platform: Some(Platform { os: (*os).to_owned(), architecture: (*architecture).to_owned() }),
                artifact_type: None,
            })
            .collect()
    }

    fn chosen(platforms: &[(&str, &str)]) -> Result<String, String> {
        let entries = index(platforms);
        choose(&entries, "amd64").map(|entry| entry.platform.clone().map(|p| format!("{}/{}", p.os, p.architecture)).unwrap())
    }

    #[test]
    fn the_wasm_variant_is_taken_before_the_native_one() {
        assert_eq!(chosen(&[("linux", "amd64"), ("wasi", "wasm")]).unwrap(), "wasi/wasm");
        assert_eq!(chosen(&[("linux", "amd64"), ("wasip1", "wasm"), ("wasip2", "wasm")]).unwrap(), "wasip2/wasm");
        assert_eq!(chosen(&[("linux", "arm64"), ("linux", "wasm"), ("linux", "amd64")]).unwrap(), "linux/wasm");
        assert_eq!(chosen(&[("linux", "arm64"), ("linux", "amd64")]).unwrap(), "linux/amd64");
        assert_eq!(chosen(&[("linux", "amd64"), ("wasi", "wasm32")]).unwrap(), "wasi/wasm32");
        assert_eq!(chosen(&[("linux", "amd64"), ("Wasip1", "wasm")]).unwrap(), "Wasip1/wasm");
        assert_eq!(chosen(&[("js", "wasm"), ("linux", "amd64")]).unwrap(), "linux/amd64");
    }

    #[test]
    fn an_index_without_a_usable_variant_lists_what_was_there() {
        let error = chosen(&[("windows", "amd64"), ("linux", "s390x"), ("unknown", "unknown")]).unwrap_err();
        assert!(error.ends_with("only: linux/s390x, windows/amd64"), "{error}");
        assert!(chosen(&[("unknown", "unknown")]).unwrap_err().ends_with("only: nothing"));
        assert!(chosen(&[]).unwrap_err().ends_with("only: nothing"));
    }

    #[test]
    fn entries_without_a_platform_are_told_apart_by_their_artifact_type() {
        let bare = |artifact: Option<&str>| Descriptor {
            platform: None,
            artifact_type: artifact.map(str::to_owned),
            digest: Digest::of(artifact.unwrap_or_default().as_bytes()),
            ..index(&[("", "")]).remove(0)
        };
        let pick = |entries: &[Descriptor]| choose(entries, "amd64").map(|entry| entry.artifact_type.clone());
        let wasm = bare(Some("application/vnd.wasm.config.v0+json"));
        let native = index(&[("linux", "amd64")]).remove(0);
        assert_eq!(pick(&[native.clone(), bare(Some("application/spdx")), wasm.clone()]).unwrap(), wasm.artifact_type);
        assert_eq!(pick(&[bare(None), native.clone()]).unwrap(), None);
        assert!(choose(&[bare(None), native], "amd64").unwrap().platform.is_some());
        assert_eq!(pick(&[bare(Some("application/spdx"))]).unwrap().as_deref(), Some("application/spdx"));
        let error = pick(&[bare(None), bare(Some("application/spdx"))]).unwrap_err();
        assert!(error.ends_with("only: a manifest without a platform, an artifact of type application/spdx"), "{error}");
        let mut attestation = bare(None);
        attestation.annotations = Some([("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())].into());
        assert_eq!(pick(&[attestation, bare(None)]).unwrap(), None);
    }

    #[test]
    fn a_document_that_is_manifest_and_index_at_once_is_refused() {
        let config = format!(r#"{{"digest":"{D}","size":1}}"#);
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        assert!(parse(both.as_bytes()).is_err());
        let lying = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{config},"layers":[]}}"#
        );
        assert!(parse(lying.as_bytes()).is_err());
        let plain = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        assert!(matches!(parse(plain.as_bytes()), Ok(Document::Manifest(_))));
    }

    #[test]
    fn schema_one_negative_sizes_and_nonsense_are_refused_in_words() {
        let one = parse(br#"{"schemaVersion":1,"config":7}"#).unwrap_err();
        assert!(one.contains("schema 1"), "{one}");
        let negative = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{D}","size":-1}},"layers":[]}}"#);
        assert!(parse(negative.as_bytes()).is_err());
        for text in ["", "[]", "{}", "null", r#"{"schemaVersion":3}"#, r#"{"schemaVersion":2}"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_docker_configuration_with_nulls_is_read() {
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"User":"1000:5","Env":["A=b"],"Entrypoint":["/a.wasm"],
            "Cmd":null,"Labels":null,"WorkingDir":"/w","StopSignal":"SIGINT"}},"rootfs":{{"type":"layers","diff_ids":["{D}"]}}}}"#
        );
        let file = parse_config(text.as_bytes()).unwrap();
        assert_eq!(file.config.entrypoint, ["/a.wasm"]);
        assert_eq!((file.config.user.as_str(), file.config.cmd.len(), file.diff_ids.len()), ("1000:5", 0, 1));
        assert!(parse_config(b"{}").unwrap().diff_ids.is_empty());
    }
}
