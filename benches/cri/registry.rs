//! A registry on loopback for the images of a run, so that both runtimes pull theirs as they would anywhere.
//!
//! The read half of the OCI distribution specification. It has a thread and an executor of its own, as the bench's only runs while a
//! call is under way.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri, header};
use rustix::thread::LinkNameSpaceType;
use serde_json::json;
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// By path.
type Blobs = Arc<Mutex<HashMap<String, Blob>>>;

#[derive(Debug, Clone)]
struct Blob {
    kind: &'static str,
    digest: String,
    bytes: Bytes,
}

impl Blob {
    fn new(kind: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { kind, digest: digest(&bytes), bytes }
    }
}

/// A running registry. It ends with the process.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    blobs: Blobs,
}

impl Registry {
    /// Listens on a free port of 127.0.0.1, in a network namespace if one is given.
    pub fn start(netns: Option<&Path>) -> anyhow::Result<Self> {
        let blobs = Blobs::default();
        let netns = netns.map(std::fs::File::open).transpose()?;
        let (send, receive) = std::sync::mpsc::channel();
        let served = blobs.clone();
        std::thread::spawn(move || {
            let listener = move || -> anyhow::Result<TcpListener> {
                if let Some(netns) = netns {
                    // Of this thread only.
                    rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
                }
                let listener = TcpListener::bind(("127.0.0.1", 0))?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            };
            let listener = listener();
            let address = listener.as_ref().map_err(|error| anyhow!("{error:#}")).and_then(|it| Ok(it.local_addr()?));
            let _ = send.send(address);
            if let Ok(listener) = listener
                && let Err(error) = serve(listener, served)
            {
                eprintln!("bench: the registry: {error:#}");
            }
        });
        let address = receive.recv().context("its thread has ended")??;
        Ok(Self { address, blobs })
    }

    /// Adds a module as a CNCF wasm artifact and returns the reference by which it is pulled.
    pub fn add_wasm(&self, name: &str, wasm: &[u8]) -> String {
        let config =
            json!({ "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1", "layerDigests": [digest(wasm)] });
        self.add(name, ("application/vnd.wasm.config.v0+json", config), ("application/wasm", wasm))
    }

    /// Adds an ordinary image with one program in it, and returns the reference by which it is pulled.
    pub fn add_native(&self, name: &str, program: &[u8], command: &[&str]) -> anyhow::Result<String> {
        let layer = archive("program", program)?;
        let diff_id = digest(&layer);
        Ok(self.add_image(name, &diff_id, ("application/vnd.oci.image.layer.v1.tar", layer), command))
    }

    /// Adds an ordinary image whose one compressed layer holds a module, and returns the reference by which it is pulled.
    pub fn add_compressed(&self, name: &str, module: &[u8]) -> anyhow::Result<String> {
        let layer = archive("module.wasm", module)?;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, &layer)?;
        let compressed = encoder.finish()?;
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        Ok(self.add_image(name, &digest(&layer), (kind, compressed), &["/module.wasm"]))
    }

    fn add_image(&self, name: &str, diff_id: &str, layer: (&'static str, Vec<u8>), command: &[&str]) -> String {
        let config = json!({
            "architecture": go_architecture(), "os": "linux", "config": { "Entrypoint": command },
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        });
        self.add(name, ("application/vnd.oci.image.config.v1+json", config), (layer.0, &layer.1))
    }

    fn add(&self, name: &str, config: (&'static str, serde_json::Value), layer: (&'static str, &[u8])) -> String {
        let config = Blob::new(config.0, config.1.to_string());
        let layer = Blob::new(layer.0, layer.1.to_vec());
        let descriptor = |blob: &Blob| json!({ "mediaType": blob.kind, "digest": blob.digest, "size": blob.bytes.len() });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(&config), "layers": [descriptor(&layer)],
        });
        let manifest = Blob::new(MANIFEST, manifest.to_string());
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        for blob in [layer, config] {
            blobs.insert(format!("/v2/{name}/blobs/{}", blob.digest), blob);
        }
        blobs.insert(format!("/v2/{name}/manifests/{}", manifest.digest), manifest.clone());
        blobs.insert(format!("/v2/{name}/manifests/1"), manifest);
        format!("{}/{name}:1", self.address)
    }
}

/// A tar archive of one program.
fn archive(name: &str, program: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(program.len().try_into()?);
    archive.append_data(&mut header, name, program)?;
    Ok(archive.into_inner()?)
}

fn serve(listener: TcpListener, blobs: Blobs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(axum::serve(listener, Router::new().fallback(answer).with_state(blobs)).await?)
    })
}

async fn answer(State(blobs): State<Blobs>, uri: Uri) -> Response<Body> {
    let found = if uri.path() == "/v2/" {
        Some(Blob::new("application/json", "{}"))
    } else {
        blobs.lock().unwrap_or_else(PoisonError::into_inner).get(uri.path()).cloned()
    };
    let mut response = Response::new(Body::empty());
    match found {
        Some(Blob { kind, digest, bytes }) => {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
            // containerd asks for a manifest's digest with HEAD, and wants both from that answer.
            headers.insert(header::CONTENT_LENGTH, header::HeaderValue::from(bytes.len()));
            if let Ok(value) = header::HeaderValue::from_str(&digest) {
                headers.insert("docker-content-digest", value);
            }
            *response.body_mut() = Body::from(bytes);
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// What images call this machine.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
