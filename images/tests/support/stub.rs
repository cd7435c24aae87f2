//! A server that answers as the test says, in HTTP or HTTPS, and remembers what it was asked. It knows nothing of the
//! crate, so that the crate's own tests use it too.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query; to a proxy the whole URL.
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Clone, Default)]
pub struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// The connection ends after this many bytes of the body; with nothing of the answer if it is `Some(None)`.
    cut: Option<Option<usize>>,
}

impl Reply {
    pub fn new(status: u16, body: impl AsRef<[u8]>) -> Reply {
        Reply { status, body: body.as_ref().to_vec(), ..Reply::default() }
    }

    /// The connection is closed without an answer.
    pub fn none() -> Reply {
        Reply { cut: Some(None), ..Reply::default() }
    }

    pub fn redirect(to: impl std::fmt::Display) -> Reply {
        Reply::new(307, "").header("Location", to)
    }

    pub fn header(mut self, name: &str, value: impl std::fmt::Display) -> Reply {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn cut(mut self, after: usize) -> Reply {
        self.cut = Some(Some(after));
        self
    }
}

pub struct Stub {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Stub {
    pub fn new(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Stub {
        Stub::start(None, answer)
    }

    pub fn tls(config: ServerConfig, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Stub {
        Stub::start(Some(Arc::new(config)), answer)
    }

    fn start(tls: Option<Arc<ServerConfig>>, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stub = Stub { address, seen: Arc::default(), stop: Arc::default() };
        let (seen, stop, answer) = (stub.seen.clone(), stub.stop.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (tls, seen, answer, stream) = (tls.clone(), seen.clone(), answer.clone(), stream.unwrap());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &seen, &*answer),
                    Some(config) => {
                        let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                        serve(&mut tls, &seen, &*answer);
                        tls.conn.send_close_notify();
                        let _gone = tls.flush();
                    }
                });
            }
        });
        stub
    }

    /// `127.0.0.1:port/name`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests whose target has this in it.
    pub fn seen_at(&self, part: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.target.contains(part)).collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// One request, one answer. Errors are the peer's going, which is its business.
fn serve(mut stream: impl Read + Write, seen: &Mutex<Vec<Seen>>, answer: &dyn Fn(&Seen) -> Reply) {
    let mut bytes = Vec::new();
    let head = loop {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return,
        }
        // A TLS client hello: this is plain HTTP.
        if bytes[0] == 0x16 {
            return;
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let headers = text.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut words = text.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut request = Seen { method, target, headers, body: String::new() };
    let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head + length {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    request.body = String::from_utf8_lossy(&bytes[head..]).into_owned();
    let reply = answer(&request);
    seen.lock().unwrap().push(request);
    let end = match reply.cut {
        Some(None) => return,
        Some(Some(after)) => after,
        None => reply.body.len(),
    };
    let (status, length, headers) = (reply.status, reply.body.len(), reply.headers);
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let _gone = stream.write_all(&[head.as_bytes(), &reply.body[..end]].concat());
    let _gone = stream.flush();
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// What a registry has: one wasm artifact under the tag `v1`, in whichever repository it is asked for.
#[derive(Clone)]
pub struct Shelf {
    bodies: HashMap<String, Vec<u8>>,
    pub manifest: String,
    pub blob: String,
}

impl Shelf {
    pub fn new(module: &[u8]) -> Shelf {
        let config = serde_json::to_vec(&json!({"architecture": "wasm", "os": "wasip1"})).unwrap();
        let of = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({"schemaVersion": 2,
            "config": of("application/vnd.wasm.config.v0+json", &config), "layers": [of("application/wasm", module)]});
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let (id, blob) = (digest(&manifest), digest(module));
        let bodies = HashMap::from([
            ("manifests/v1".to_owned(), manifest.clone()),
            (format!("manifests/{id}"), manifest),
            (format!("blobs/{}", digest(&config)), config),
            (format!("blobs/{blob}"), module.to_vec()),
        ]);
        Shelf { bodies, manifest: id, blob }
    }

    /// What a registry answers, in parts if it is asked so.
    pub fn reply(&self, seen: &Seen) -> Reply {
        let path = seen.target.split('?').next().unwrap();
        let key = ["manifests/", "blobs/"].iter().find_map(|kind| path.find(kind).map(|at| &path[at..]));
        let Some(body) = key.and_then(|key| self.bodies.get(key)) else {
            return Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such"}]}"#);
        };
        let from = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match from {
            None => Reply::new(200, body),
            Some(from) if from >= body.len() => Reply::new(416, ""),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                Reply::new(206, &body[from..]).header("Content-Range", range)
            }
        }
    }
}
