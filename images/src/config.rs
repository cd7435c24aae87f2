//! What an operator can set about images, and what each default is for.

use std::path::PathBuf;

/// Configuration of [`crate::Images`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory that holds everything of this crate; made if it is not there. One process at a time.
    pub root: PathBuf,
    /// Registries spoken to in plain HTTP, as `host:port`, or as `host` for each of its ports. Loopback registries
    /// need not be named: those are tried with HTTPS first, then with HTTP.
    pub insecure_registries: Vec<String>,
    /// Blobs fetched at once, over all pulls. 3, as containerd: more rarely helps on one link, and costs memory.
    pub max_parallel_downloads: usize,
    /// Compile processes at once. 1: a compiler uses every core that it is allowed by itself, and its memory (some
    /// hundred MiB for a large module) is the most that a pull needs.
    pub max_parallel_compiles: usize,
    /// What an image may be at most.
    pub limits: Limits,
}

impl Config {
    /// The defaults, below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Config {
        Config { root: root.into(), ..Config::default() }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            root: PathBuf::from("/var/lib/cri-wasm/images"),
            insecure_registries: Vec::new(),
            max_parallel_downloads: 3,
            max_parallel_compiles: 1,
            limits: Limits::default(),
        }
    }
}

/// Caps on what a registry may send. Each refusal names the cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest or an index. 4 MiB: what the distribution specification asks registries to accept.
    pub manifest_bytes: u64,
    /// Bytes of a configuration. 4 MiB: real ones are some kB; it is held in memory.
    pub config_bytes: u64,
    /// Layers of an image. 127: what Docker builds at most; overlayfs takes 500.
    pub layers: usize,
    /// Bytes of one blob as it is sent. 8 GiB: above any image that wasm is shipped in.
    pub layer_bytes: u64,
    /// Bytes of one layer's files. 32 GiB: a decompression bomb ends here, far below a disk's size.
    pub unpacked_bytes: u64,
    /// Entries of one layer. 500,000: a full desktop system has about 300,000; each costs an inode.
    pub entries: u64,
    /// Bytes of one path inside an image. 4,096, the kernel's own limit.
    pub path_bytes: usize,
    /// Directories above a file. 128: removing a tree holds a descriptor for each.
    pub depth: usize,
    /// Wasm files that one image may hold, since each is compiled at pull. 256.
    pub modules: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            manifest_bytes: 4 << 20,
            config_bytes: 4 << 20,
            layers: 127,
            layer_bytes: 8 << 30,
            unpacked_bytes: 32 << 30,
            entries: 500_000,
            path_bytes: 4096,
            depth: 128,
            modules: 256,
        }
    }
}
