//! A registry on loopback that serves what the command holds in memory, so that a file on a desk takes the same way as an image.
//!
//! The read half of the OCI distribution specification: version check, manifests and blobs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri, header};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

type Blobs = Arc<Mutex<HashMap<String, (&'static str, Vec<u8>)>>>;

/// A running registry; dropping it ends it.
#[derive(Debug)]
pub(super) struct Registry {
    address: SocketAddr,
    blobs: Blobs,
    task: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    /// Listens on a free port of 127.0.0.1.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let blobs = Blobs::default();
        let app = Router::new().fallback(answer).with_state(blobs.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                eprintln!("cri-wasm: the embedded registry: {error}");
            }
        });
        Ok(Self { address, blobs, task })
    }

    /// Adds a module or component as a CNCF wasm artifact and returns the reference by which it is pulled.
    pub(super) fn add(&self, name: &str, wasm: Vec<u8>) -> String {
        let layer = (digest(&wasm), wasm.len());
        // Text is taken for wasm only under its own name.
        let ending = if wasm.trim_ascii_start().starts_with(b"(") || wasm.starts_with(b";;") { "wat" } else { "wasm" };
        let target = if wasm.get(4..8) == Some(&[0x0d, 0, 1, 0]) { "wasip2" } else { "wasip1" };
        let config = serde_json::json!({
            "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": target, "layerDigests": [layer.0],
        });
        let config = config.to_string().into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
            "layers": [{
                "mediaType": LAYER, "digest": layer.0, "size": layer.1,
                "annotations": {"org.opencontainers.image.title": format!("{name}.{ending}")},
            }],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.insert(format!("/v2/{name}/blobs/{}", layer.0), (LAYER, wasm));
        blobs.insert(format!("/v2/{name}/blobs/{}", digest(&config)), (CONFIG, config));
        blobs.insert(format!("/v2/{name}/manifests/{}", digest(&manifest)), (MANIFEST, manifest.clone()));
        blobs.insert(format!("/v2/{name}/manifests/latest"), (MANIFEST, manifest));
        format!("{}/{name}:latest", self.address)
    }
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
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
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
