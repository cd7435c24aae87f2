//! The read half of a registry, in memory, over plain HTTP on loopback.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

type Contents = Arc<Mutex<HashMap<String, (&'static str, Vec<u8>)>>>;

pub struct TinyRegistry {
    address: SocketAddr,
    contents: Contents,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TinyRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TinyRegistry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let contents = Contents::default();
        let served = Arc::clone(&contents);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&served)));
            }
        });
        Self { address, contents, task }
    }

    /// Adds a CNCF wasm artifact and returns its reference.
    pub fn add(&self, name: &str, wasm: &[u8]) -> String {
        let config = format!(r#"{{"architecture":"wasm","os":"wasip1","layerDigests":["{}"]}}"#, digest(wasm)).into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": "application/wasm", "digest": digest(wasm), "size": wasm.len()}],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut contents = self.contents.lock().unwrap();
        for blob in [wasm.to_vec(), config] {
            contents.insert(format!("/v2/{name}/blobs/{}", digest(&blob)), ("application/octet-stream", blob));
        }
        contents.insert(format!("/v2/{name}/manifests/{}", digest(&manifest)), (MANIFEST, manifest.clone()));
        contents.insert(format!("/v2/{name}/manifests/latest"), (MANIFEST, manifest));
        contents.insert("/v2/".to_owned(), ("application/json", b"{}".to_vec()));
        format!("{}/{name}:latest", self.address)
    }
}

async fn answer(mut stream: TcpStream, contents: Contents) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let mut words = text.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let found = contents.lock().unwrap().get(path).cloned();
    let (status, kind, body) = match found {
        Some((kind, body)) => ("200 OK", kind, body),
        None => ("404 Not Found", "application/json", b"{}".to_vec()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\nConnection: close\r\n\r\n",
        body.len(),
        digest(&body)
    );
    let _ = stream.write_all(head.as_bytes()).await;
    if method != "HEAD" {
        let _ = stream.write_all(&body).await;
    }
    let _ = stream.shutdown().await;
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
