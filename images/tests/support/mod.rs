//! A small registry on a loopback port that can be told to misbehave, and a compiler that only pretends.

#![allow(dead_code, reason = "each suite uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

pub mod archive;
pub mod child;
pub mod registry;
pub mod stub;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use images::{CodeReport, CompileError, Compiler, Config, Images, OpenError};

/// A wasm file, as far as this crate looks: the magic and something of its own.
pub fn wasm(content: &str) -> Vec<u8> {
    [b"\0asm\x01\0\0\0", content.as_bytes()].concat()
}

/// Writes a text instead of code; refuses what has `unknown-import` in it.
pub struct FakeCompiler {
    pub fingerprint: Mutex<String>,
    pub runs: AtomicUsize,
    at_once: AtomicUsize,
    pub most_at_once: AtomicUsize,
}

impl FakeCompiler {
    pub fn new() -> Arc<FakeCompiler> {
        Arc::new(FakeCompiler {
            fingerprint: Mutex::new("engine-1".to_owned()),
            runs: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        })
    }

    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

/// The trait is for what the store owns, so this is the handle that it gets.
pub struct Shared(pub Arc<FakeCompiler>);

impl Compiler for Shared {
    fn fingerprint(&self) -> String {
        self.0.fingerprint.lock().unwrap().clone()
    }

    fn compile(&self, wasm: PathBuf, output: PathBuf) -> Pin<Box<dyn Future<Output = Result<CodeReport, CompileError>> + Send>> {
        let compiler = self.0.clone();
        Box::pin(async move {
            compiler.runs.fetch_add(1, Ordering::SeqCst);
            let now = compiler.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            compiler.most_at_once.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            compiler.at_once.fetch_sub(1, Ordering::SeqCst);
            // An image may be removed while its code is made.
            let bytes = std::fs::read(&wasm).map_err(|error| CompileError::Failed(error.to_string()))?;
            assert!(bytes.starts_with(b"\0asm") || bytes.contains(&b'('), "neither wasm nor its text");
            if String::from_utf8_lossy(&bytes).contains("unknown-import") {
                return Err(CompileError::Rejected("the module imports env::nope, which is not provided".to_owned()));
            }
            std::fs::write(&output, [b"code of ", bytes.as_slice()].concat()).unwrap();
            let imports = vec!["wasi_snapshot_preview1::fd_write".to_owned()];
            Ok(CodeReport { kind: "module".into(), world: "command".into(), wasi: "p1".into(), imports })
        })
    }
}

/// A store in a directory of its own.
pub struct Node {
    pub directory: tempfile::TempDir,
    pub compiler: Arc<FakeCompiler>,
    pub images: Images,
    pub config: Config,
}

impl Node {
    pub async fn new() -> Node {
        Node::with(|_| {}).await
    }

    pub async fn with(set: impl FnOnce(&mut Config)) -> Node {
        let directory = tempfile::tempdir().unwrap();
        let compiler = FakeCompiler::new();
        let mut config = Config::new(directory.path().join("images"));
        // The pauses between tries are real.
        config.download_retries = 1;
        set(&mut config);
        let images = Images::open(config.clone(), Arc::new(Shared(compiler.clone()))).await.unwrap();
        Node { directory, compiler, images, config }
    }

    pub fn root(&self) -> PathBuf {
        self.config.root.clone()
    }

    /// As after a restart of the daemon.
    pub async fn reopen(self) -> Node {
        let Node { directory, compiler, images, config } = self;
        drop(images);
        for _ in 0..500 {
            match Images::open(config.clone(), Arc::new(Shared(compiler.clone()))).await {
                Ok(images) => return Node { directory, compiler, images, config },
                // A process that another test is starting holds a copy of the lock from its fork to its exec.
                Err(OpenError::Locked { .. }) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the store stays locked");
    }

    /// Names of everything below the root that belongs to images: files, layers, code, temporary files.
    pub fn content(&self) -> Vec<String> {
        leftovers(&self.root())
    }

    /// Waits until a dropped call has been cleaned up after, which threads do.
    pub async fn becomes_empty(&self) {
        for _ in 0..200 {
            if self.content().is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("left: {:?}", self.content());
    }
}

/// Names of everything below a store's root that belongs to images.
pub fn leftovers(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for directory in ["ingest", "layers", "blobs/sha256", "records", "compiled/engine-1"] {
        names.extend(list(&root.join(directory)).into_iter().map(|name| format!("{directory}/{name}")));
    }
    names.retain(|name| name != "records/names.json");
    names
}

pub fn list(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Bytes that do not compress, always the same.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
