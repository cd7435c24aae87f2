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
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri, header};
use rustix::thread::LinkNameSpaceType;
use serde_json::json;
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

type Blobs = Arc<Mutex<HashMap<String, (&'static str, Vec<u8>)>>>;

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
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(program.len().try_into()?);
        archive.append_data(&mut header, "program", program)?;
        let layer = archive.into_inner()?;
        let config = json!({
            "architecture": go_architecture(), "os": "linux", "config": { "Entrypoint": command },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let config = ("application/vnd.oci.image.config.v1+json", config);
        Ok(self.add(name, config, ("application/vnd.oci.image.layer.v1.tar", &layer)))
    }

    fn add(&self, name: &str, config: (&'static str, serde_json::Value), layer: (&'static str, &[u8])) -> String {
        let config = (config.0, config.1.to_string().into_bytes());
        let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(config.0, &config.1), "layers": [descriptor(layer.0, layer.1)],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.insert(format!("/v2/{name}/blobs/{}", digest(layer.1)), (layer.0, layer.1.to_vec()));
        blobs.insert(format!("/v2/{name}/blobs/{}", digest(&config.1)), config);
        blobs.insert(format!("/v2/{name}/manifests/{}", digest(&manifest)), (MANIFEST, manifest.clone()));
        blobs.insert(format!("/v2/{name}/manifests/1"), (MANIFEST, manifest));
        format!("{}/{name}:1", self.address)
    }
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
        Some(("application/json", b"{}".to_vec()))
    } else {
        blobs.lock().unwrap_or_else(PoisonError::into_inner).get(uri.path()).cloned()
    };
    let mut response = Response::new(Body::empty());
    match found {
        Some((kind, bytes)) => {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
            // containerd asks for a manifest's digest with HEAD, and wants both from that answer.
            headers.insert(header::CONTENT_LENGTH, header::HeaderValue::from(bytes.len()));
            if let Ok(value) = header::HeaderValue::from_str(&digest(&bytes)) {
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
