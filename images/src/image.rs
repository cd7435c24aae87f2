//! What is known about an image that is on this node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// PATH of a program where nothing sets one; what Docker and containerd set.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The PATH of an environment, `NAME=VALUE` each: of several the last one counts.
pub fn search_path(env: &[String]) -> &str {
    env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
}

/// An image: everything here is on the disk and compiled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of the platform's manifest, `sha256:…`. Not of the configuration: wasm artifacts share that
    /// (often it is `{}`), and the kubelet takes the id for an identity.
    pub id: String,
    /// `name:tag`, sorted. Empty for an image pulled by digest, or whose tags moved on.
    #[serde(skip)]
    pub repo_tags: Vec<String>,
    /// `name@digest`, sorted, with the digest that was asked for or that the tag named: of an index where there is one.
    pub repo_digests: Vec<String>,
    /// Bytes of the manifest, the configuration and the blobs as they were sent. Above 0.
    pub size: u64,
    /// The manifest's platform, `linux` or `wasip1` and so on; empty where nothing says it.
    pub os: String,
    /// The manifest's architecture, `wasm` or `amd64` and so on; empty where nothing says it.
    pub architecture: String,
    /// What the image says about how to run it.
    pub config: ImageConfig,
    /// How the wasm was packed.
    pub kind: ArtifactKind,
    /// Every wasm file that the image's file system shows, sorted by path.
    pub wasm: Vec<WasmFile>,
    /// Names of the layers, lowest first, each once.
    pub(crate) layers: Vec<String>,
    /// When it was first pulled, in seconds since 1970.
    pub pulled_at: u64,
}

impl Image {
    /// The wasm file that lies at a path without links.
    pub(crate) fn wasm_at(&self, path: &Path) -> Option<&WasmFile> {
        self.wasm.iter().find(|file| file.path == path)
    }
}

/// The part of an image's configuration that a container starts from. Empty means not given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The command; the arguments follow it.
    pub entrypoint: Vec<String>,
    /// Default arguments, or the command where there is no entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute path, or empty.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: String,
    /// Labels of the configuration, or the manifest's annotations for an artifact.
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM` or a number.
    pub stop_signal: String,
}

/// How the wasm was packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// Wasm files and nothing else, in the root directory.
    Artifact {
        /// The path of the only one, which runs with the container's arguments. None where there are several, as in an
        /// application of Spin: then the container's command names one of [`Image::wasm`].
        module: Option<PathBuf>,
    },
    /// A file system whose entrypoint says what runs.
    Image,
}

/// A wasm module or component in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WasmFile {
    /// Absolute path in the image, without links.
    pub path: PathBuf,
    /// `sha256:…` of the file; [`crate::Images::code`] takes it.
    pub digest: String,
}
