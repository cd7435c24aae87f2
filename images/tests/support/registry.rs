//! The registry: HTTP/1.1, one request per connection, what it serves and how it errs set by the test.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::archive::{Archive, gzip};

/// What happens to one path.
#[derive(Clone)]
pub enum Trouble {
    /// The connection is closed after this many bytes of the body.
    CutAfter(usize),
    /// These bytes instead, with their own length.
    Instead(Vec<u8>),
    /// Nothing after the first bytes of the body, for long.
    Stall,
    /// This status, this many times.
    Status(u16, usize),
    /// A body without a length that does not end.
    Endless,
    /// A length, and that many spaces.
    Spaces(u64),
    /// Elsewhere.
    Redirect(String),
    /// As `CutAfter`, so many bytes of what was asked for, this many times; then all is well.
    CutTimes(usize, usize),
    /// As `CutTimes`, and ranges are ignored.
    CutWithoutRanges(usize, usize),
}

/// Who may pull.
#[derive(Clone)]
pub enum Door {
    Open,
    Basic(String),
    /// Tokens from `/token` for those with this basic authentication, or for all if empty.
    Token(String),
}

#[derive(Default)]
struct Content {
    bodies: HashMap<String, Vec<u8>>,
    troubles: HashMap<String, Trouble>,
    requests: Vec<String>,
    /// Path and range of the requests that had one.
    ranges: Vec<(String, String)>,
    tokens: usize,
}

pub struct Registry {
    pub address: SocketAddr,
    content: Arc<Mutex<Content>>,
    stop: Arc<AtomicBool>,
    door: Arc<Mutex<Door>>,
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Registry {
    pub fn new() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Registry {
            address,
            content: Arc::default(),
            stop: Arc::new(AtomicBool::new(false)),
            door: Arc::new(Mutex::new(Door::Open)),
        };
        let (content, stop, door) = (registry.content.clone(), registry.stop.clone(), registry.door.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (content, door) = (content.clone(), door.lock().unwrap().clone());
                let stop = stop.clone();
                std::thread::spawn(move || serve(stream.unwrap(), address, &content, &door, &stop));
            }
        });
        registry
    }

    pub fn door(&self, door: Door) {
        *self.door.lock().unwrap() = door;
    }

    /// `127.0.0.1:port/name`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn trouble(&self, path: &str, trouble: Trouble) {
        self.content.lock().unwrap().troubles.insert(path.to_owned(), trouble);
    }

    pub fn no_trouble(&self) {
        self.content.lock().unwrap().troubles.clear();
    }

    /// How often a path with this end was asked for.
    pub fn requests(&self, end: &str) -> usize {
        self.content.lock().unwrap().requests.iter().filter(|path| path.ends_with(end)).count()
    }

    /// The ranges that were asked of a path with this end.
    pub fn ranges(&self, end: &str) -> Vec<String> {
        let content = self.content.lock().unwrap();
        content.ranges.iter().filter(|(path, _)| path.ends_with(end)).map(|(_, range)| range.clone()).collect()
    }

    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        self.content.lock().unwrap().bodies.insert(format!("blobs/{digest}"), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Puts a manifest under its digest and a tag; gives its digest.
    pub fn manifest(&self, tag: &str, manifest: &Value) -> String {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = digest(&bytes);
        let mut content = self.content.lock().unwrap();
        content.bodies.insert(format!("manifests/{tag}"), bytes.clone());
        content.bodies.insert(format!("manifests/{digest}"), bytes);
        digest
    }

    /// A CNCF wasm artifact.
    pub fn artifact(&self, tag: &str, module: &[u8], title: Option<&str>) -> String {
        let config = json!({"created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1"});
        let config = self.blob("application/vnd.wasm.config.v0+json", &serde_json::to_vec(&config).unwrap());
        let mut layer = self.blob("application/wasm", module);
        if let Some(title) = title {
            layer["annotations"] = json!({"org.opencontainers.image.title": title});
        }
        self.manifest(tag, &json!({"schemaVersion": 2, "config": config, "layers": [layer], "annotations": {"a": "b"}}))
    }

    /// Puts bytes under a tag, as they are.
    pub fn raw(&self, tag: &str, bytes: Vec<u8>) {
        self.content.lock().unwrap().bodies.insert(format!("manifests/{tag}"), bytes);
    }

    /// An OCI image of one layer, compressed already, of this diff-id.
    pub fn layer(&self, tag: &str, blob: &[u8], diff_id: &str) -> String {
        let layer = self.blob("application/vnd.oci.image.layer.v1.tar+gzip", blob);
        let config =
            json!({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
        let config = self.blob("application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config).unwrap());
        self.manifest(tag, &json!({"schemaVersion": 2, "config": config, "layers": [layer]}))
    }

    /// An OCI image of these layers, lowest first.
    pub fn image(&self, tag: &str, layers: Vec<Archive>, config: Value) -> String {
        let layers: Vec<Vec<u8>> = layers.into_iter().map(Archive::bytes).collect();
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let blobs: Vec<Value> =
            layers.iter().map(|layer| self.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(layer))).collect();
        let config = json!({"os": "linux", "architecture": "amd64", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.blob("application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config).unwrap());
        self.manifest(
            tag,
            &json!({"schemaVersion": 2, "config": config, "layers": blobs,
            "mediaType": "application/vnd.oci.image.manifest.v1+json"}),
        )
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, address: SocketAddr, content: &Mutex<Content>, door: &Door, stop: &AtomicBool) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
        // A TLS client hello: this is plain HTTP.
        if request[0] == 0x16 {
            return;
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let header = |name: &str| {
        let line = request.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
        line.map(|line| line[name.len() + 1..].trim().to_owned())
    };
    content.lock().unwrap().requests.push(path.clone());
    let range = header("range");
    if let Some(range) = &range {
        content.lock().unwrap().ranges.push((path.clone(), range.clone()));
    }
    let authorization = header("authorization").unwrap_or_default();
    if path.starts_with("/token") {
        let Door::Token(wanted) = door else { return answer(&mut stream, 404, "", b"") };
        if !wanted.is_empty() && authorization != format!("Basic {wanted}") {
            return answer(&mut stream, 401, "", b"wrong password");
        }
        let mut content = content.lock().unwrap();
        content.tokens += 1;
        let token = format!(r#"{{"token":"token{}"}}"#, content.tokens);
        return answer(&mut stream, 200, "", token.as_bytes());
    }
    let challenge = match door {
        Door::Open => None,
        Door::Basic(wanted) => (authorization != format!("Basic {wanted}")).then(|| "Basic realm=\"r\"".to_owned()),
        Door::Token(_) => {
            let tokens = content.lock().unwrap().tokens;
            let good = authorization == format!("Bearer token{tokens}") || authorization == "Bearer given";
            (!good).then(|| format!("Bearer realm=\"http://{address}/token\",service=\"s\""))
        }
    };
    if let Some(challenge) = challenge {
        let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        return answer(&mut stream, 401, &format!("WWW-Authenticate: {challenge}\r\n"), body);
    }
    if path == "/v2/" {
        return answer(&mut stream, 200, "", b"{}");
    }
    let key =
        ["manifests/", "blobs/"].iter().find_map(|kind| path.find(kind).map(|at| path[at..].to_owned())).unwrap_or_default();
    let (body, trouble) = {
        let mut content = content.lock().unwrap();
        let trouble = content.troubles.get(&key).cloned();
        if let Some(Trouble::Status(status, times)) = &trouble {
            match times {
                1 => drop(content.troubles.remove(&key)),
                times => drop(content.troubles.insert(key.clone(), Trouble::Status(*status, times - 1))),
            }
        }
        if let Some(Trouble::CutTimes(_, times) | Trouble::CutWithoutRanges(_, times)) = content.troubles.get_mut(&key) {
            *times -= 1;
            if *times == 0 {
                content.troubles.remove(&key);
            }
        }
        (content.bodies.get(&key).cloned(), trouble)
    };
    let Some(body) = body else {
        return answer(&mut stream, 404, "", br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#);
    };
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let from = from.filter(|from| *from < body.len() && !matches!(trouble, Some(Trouble::CutWithoutRanges(..))));
    let status = from.map_or("200 OK", |_| "206 Partial Content");
    let part = from.map_or(String::new(), |from| format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len()));
    let asked = &body[from.unwrap_or(0)..];
    let head = format!("HTTP/1.1 {status}\r\n{part}Content-Length: {}\r\nConnection: close\r\n\r\n", asked.len());
    match trouble {
        None => {
            let _gone = stream.write_all(head.as_bytes());
            let _gone = stream.write_all(asked);
        }
        Some(Trouble::CutTimes(count, _) | Trouble::CutWithoutRanges(count, _)) => {
            let _gone = stream.write_all(head.as_bytes());
            let _gone = stream.write_all(&asked[..count.min(asked.len())]);
        }
        Some(Trouble::Instead(body)) => answer(&mut stream, 200, "", &body),
        Some(Trouble::Status(status, _)) => answer(&mut stream, status, "", b"{}"),
        Some(Trouble::CutAfter(count)) => {
            let _gone = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _gone = stream.write_all(&body[..count]);
        }
        Some(Trouble::Endless) => {
            let _gone = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            while !stop.load(Ordering::SeqCst) && stream.write_all(&[b' '; 65536]).is_ok() {}
        }
        Some(Trouble::Spaces(count)) => {
            let _gone = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n");
            let _gone = std::io::copy(&mut std::io::repeat(b' ').take(count), &mut stream);
        }
        Some(Trouble::Redirect(location)) => answer(&mut stream, 307, &format!("Location: {location}\r\n"), b""),
        Some(Trouble::Stall) => {
            let _gone = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _gone = stream.write_all(&body[..body.len() / 2]);
            while !stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The peer may be gone; that is its business.
fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _gone = stream.write_all(&[head.as_bytes(), body].concat());
}
