//! Images as a registry holds them: CNCF wasm artifacts and ordinary layered images.

use std::io::Write;

use serde_json::json;
use sha2::{Digest, Sha256};

/// Type of an OCI manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Type of a Docker manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Type of an OCI index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Content with its type.
#[derive(Debug, Clone)]
pub struct Blob {
    pub media_type: String,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Blob {
        Blob { media_type: media_type.to_owned(), bytes: bytes.into() }
    }

    /// As a manifest refers to it.
    pub fn descriptor(&self) -> serde_json::Value {
        json!({ "mediaType": self.media_type, "digest": digest(&self.bytes), "size": self.bytes.len() })
    }
}

/// An image to push.
#[derive(Debug, Clone)]
pub struct Image {
    pub manifest_type: &'static str,
    pub config: Blob,
    pub layers: Vec<Blob>,
}

impl Image {
    /// The CNCF's form for one wasm file: <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>.
    pub fn artifact(wasm: &[u8]) -> Image {
        let is_component = wasm.get(4..8) == Some(&[0x0d, 0, 1, 0]);
        let layer = Blob::new("application/wasm", wasm);
        let config = json!({
            "created": "2026-11-21T00:00:00Z",
            "architecture": "wasm",
            "os": if is_component { "wasip2" } else { "wasip1" },
            "layerDigests": [digest(wasm)],
        });
        Image {
            manifest_type: MANIFEST,
            config: Blob::new("application/vnd.wasm.config.v0+json", config.to_string()),
            layers: vec![layer],
        }
    }

    /// The manifest's text.
    pub fn manifest(&self) -> Vec<u8> {
        let layers: Vec<_> = self.layers.iter().map(Blob::descriptor).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.manifest_type,
            "config": self.config.descriptor(),
            "layers": layers,
        });
        manifest.to_string().into_bytes()
    }

    /// The id that a runtime gives it.
    pub fn id(&self) -> String {
        digest(&self.manifest())
    }
}

/// An image of layers with files, as `docker build` makes it.
#[derive(Debug, Clone, Default)]
pub struct Layered {
    files: Vec<File>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    user: String,
    working_dir: String,
    docker: bool,
}

#[derive(Debug, Clone)]
struct File {
    path: String,
    content: Content,
    mode: u32,
    owner: u64,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    Directory,
    Link(String),
    Raw,
}

impl Layered {
    pub fn new() -> Layered {
        Layered::default()
    }

    pub fn file(self, path: &str, bytes: &[u8]) -> Layered {
        self.add(path, Content::Bytes(bytes.to_owned()), 0o755, 0)
    }

    /// A file with permissions and an owner (user and group).
    pub fn file_of(self, path: &str, bytes: &[u8], mode: u32, owner: u64) -> Layered {
        self.add(path, Content::Bytes(bytes.to_owned()), mode, owner)
    }

    pub fn directory(self, path: &str, mode: u32, owner: u64) -> Layered {
        self.add(path, Content::Directory, mode, owner)
    }

    pub fn link(self, path: &str, target: &str) -> Layered {
        self.add(path, Content::Link(target.to_owned()), 0o777, 0)
    }

    /// An empty file under a name that no well-meaning archive has.
    pub fn raw_path(self, path: &str) -> Layered {
        self.add(path, Content::Raw, 0o644, 0)
    }

    pub fn entrypoint(self, words: &[&str]) -> Layered {
        Layered { entrypoint: strings(words), ..self }
    }

    pub fn cmd(self, words: &[&str]) -> Layered {
        Layered { cmd: strings(words), ..self }
    }

    pub fn env(self, entries: &[&str]) -> Layered {
        Layered { env: strings(entries), ..self }
    }

    pub fn user(self, user: &str) -> Layered {
        Layered { user: user.to_owned(), ..self }
    }

    pub fn working_dir(self, path: &str) -> Layered {
        Layered { working_dir: path.to_owned(), ..self }
    }

    /// With Docker's media types.
    pub fn docker(self) -> Layered {
        Layered { docker: true, ..self }
    }

    fn add(mut self, path: &str, content: Content, mode: u32, owner: u64) -> Layered {
        self.files.push(File { path: path.to_owned(), content, mode, owner });
        self
    }

    pub fn build(&self) -> Image {
        let tar = self.tar();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).expect("memory takes it");
        let layer = gzip.finish().expect("memory takes it");
        let config = json!({
            "architecture": "wasm",
            "os": "wasi",
            "config": {
                "Entrypoint": self.entrypoint, "Cmd": self.cmd, "Env": self.env, "User": self.user, "WorkingDir": self.working_dir,
            },
            "rootfs": { "type": "layers", "diff_ids": [digest(&tar)] },
        });
        let [manifest_type, config_type, layer_type] = if self.docker {
            [
                DOCKER_MANIFEST,
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ]
        } else {
            [MANIFEST, "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"]
        };
        Image { manifest_type, config: Blob::new(config_type, config.to_string()), layers: vec![Blob::new(layer_type, layer)] }
    }

    fn tar(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for file in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(file.mode);
            header.set_uid(file.owner);
            header.set_gid(file.owner);
            header.set_mtime(1_700_000_000);
            let path = file.path.trim_start_matches('/');
            match &file.content {
                Content::Bytes(bytes) => {
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, bytes.as_slice())
                }
                Content::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_size(0);
                    archive.append_data(&mut header, path, std::io::empty())
                }
                Content::Raw => {
                    // The crate's own functions refuse such a name.
                    let field = &mut header.as_old_mut().name;
                    assert!(path.len() < field.len(), "a name of the old form has 100 bytes: {path}");
                    field[..path.len()].copy_from_slice(path.as_bytes());
                    header.set_size(0);
                    header.set_cksum();
                    archive.append(&header, std::io::empty())
                }
                Content::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target)
                }
            }
            .expect("memory takes it");
        }
        archive.into_inner().expect("memory takes it")
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
