//! Manifests, indexes and configurations: foreign JSON, read leniently in what we do not use and strictly in what
//! decides which bytes are fetched.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;
use crate::image::ImageConfig;

/// What is asked of a registry's `manifests/` endpoint.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

#[derive(Debug, Clone)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) annotations: BTreeMap<String, String>,
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
}

impl Descriptor {
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
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
    }
    // Schema 1 has other types in the same fields, so it is recognised before it fails to parse as something else.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u32,
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|error| format!("the manifest is not one: {error}"))?;
    if version.schema_version == 1 {
        return Err("the manifest is of Docker's schema 1, which is out of use since 2017; push the image again".to_owned());
    }
    let either: Either = serde_json::from_slice(bytes).map_err(|error| format!("the manifest is not one: {error}"))?;
    if either.schema_version != 2 {
        return Err(format!("the manifest has schema version {}, known is 2", either.schema_version));
    }
    let says_index = either.media_type.as_deref().map(|media| media.contains("index") || media.contains("manifest.list"));
    match (either.config, either.layers, either.manifests) {
        // A document that reads as both would mean one thing to us and another to who signed it (CVE-2021-41190).
        (Some(config), Some(layers), None) if says_index != Some(true) => {
            Ok(Document::Manifest(Manifest { config, layers, annotations: either.annotations.unwrap_or_default() }))
        }
        (None, None, Some(manifests)) if says_index != Some(false) => Ok(Document::Index(manifests)),
        _ => Err("the manifest has not the fields of its type".to_owned()),
    }
}

/// The entry of an index to use: a wasm platform first, whatever its order, then `linux` on our architecture.
/// The error lists what was there.
pub(crate) fn choose<'a>(entries: &'a [Descriptor], architecture: &str) -> Result<&'a Descriptor, String> {
    let rank = |entry: &Descriptor| -> Option<u8> {
        let Some(platform) = &entry.platform else {
            // An index around one manifest, as some tools push artifacts.
            return (entries.len() == 1).then_some(9);
        };
        match (platform.os.as_str(), platform.architecture.as_str()) {
            ("wasi", "wasm") => Some(0),
            ("wasip2", "wasm") => Some(1),
            ("wasip1", "wasm") => Some(2),
            (_, "wasm" | "wasm32") => Some(3),
            ("linux", ours) if ours == architecture => Some(4),
            _ => None,
        }
    };
    let best = entries.iter().filter_map(|entry| rank(entry).map(|rank| (rank, entry))).min_by_key(|(rank, _)| *rank);
    if let Some((_, entry)) = best {
        return Ok(entry);
    }
    let mut there: Vec<String> = entries
        .iter()
        .map(|entry| entry.platform.clone().unwrap_or_default())
        .map(|platform| format!("{}/{}", platform.os, platform.architecture))
        .filter(|platform| platform != "unknown/unknown")
        .collect();
    there.sort();
    there.dedup();
    there.truncate(32);
    Err(format!("it has no variant for wasi/wasm and none for linux/{architecture}, only: {}", there.join(", ")))
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
    }

    #[test]
    fn an_index_without_a_usable_variant_lists_what_was_there() {
        let error = chosen(&[("windows", "amd64"), ("linux", "s390x"), ("unknown", "unknown")]).unwrap_err();
        assert!(error.ends_with("only: linux/s390x, windows/amd64"), "{error}");
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
