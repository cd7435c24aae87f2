//! What an operator can set about images, and what each default is for.

use std::path::PathBuf;
use std::time::Duration;

use crate::policy::{Policy, Rules};

/// Configuration of [`crate::Images`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory that holds everything of this crate; made if it is not there. One process at a time.
    pub root: PathBuf,
    /// Registries spoken to in plain HTTP, as `host:port`, or as `host` for each of its ports. Loopback registries
    /// need not be named: those are tried with HTTPS first, then with HTTP.
    pub insecure_registries: Vec<String>,
    /// Where a directory for a registry (`HOST`, `HOST:PORT`, `HOST_PORT_`, else `_default`) with a `hosts.toml` or with
    /// certificates is looked for, as in containerd's `config_path`; the first that has one wins. Those of cri-wasm,
    /// containerd and Docker, so that a node that is set up for them is set up for us.
    pub certs_dirs: Vec<PathBuf>,
    /// Blobs fetched at once, over all pulls. 3, as containerd: more rarely helps on one link, and costs memory.
    pub max_parallel_downloads: usize,
    /// Compile processes at once. 1: a compiler uses every core that it is allowed by itself, and its memory (some
    /// hundred MiB for a large module) is the most that a pull needs.
    pub max_parallel_compiles: usize,
    /// When wasm files are compiled. At pull: an error in a module is then an error of the pull, and a pod starts fast.
    pub compile: CompileMode,
    /// Wasm files of one image that are compiled at pull, the one that the image runs first; the others are compiled
    /// when they are first used. 32: above any image with several commands, below one that ships a test suite.
    pub max_compiled: usize,
    /// Which images this node takes. All.
    pub policy: Policy,
    /// Images that the kubelet is told never to collect: scopes as in [`Policy`], or references with a tag or a
    /// digest. Who asks to remove one removes it.
    pub pinned: Vec<String>,
    /// Between two pieces of a registry's answer. 60 s: a proxy that fetches a blob first is silent for some time.
    pub read_timeout: Duration,
    /// Tries in a row at an interrupted blob that bring nothing before the pull fails; pauses grow from 250 ms to 8 s. 5:
    /// with these pauses some 8 s, in which a registry is restarted; the kubelet tries again later.
    pub download_retries: u32,
    /// How long an unfinished blob is kept after its last byte came, for the next pull to go on from there. 24 hours.
    pub keep_partials: Duration,
    /// How long finished layers and code of a pull that failed or was cancelled are kept for the next try. An hour: the
    /// kubelet waits at most 5 minutes between tries. They are also removed when the store is opened.
    pub keep_layers: Duration,
    /// Bytes on the disk of unfinished blobs, and as many of such layers, above which the oldest are removed. 8 GiB.
    pub unfinished_bytes: u64,
    /// What an image may be at most.
    pub limits: Limits,
}

/// When wasm files are compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CompileMode {
    /// Before a pulled image is visible.
    #[default]
    AtPull,
    /// By [`crate::Images::code`], when a file is first used: a pull costs no CPU, a first start does.
    AtFirstStart,
}

impl Config {
    /// The defaults, below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Config {
        Config { root: root.into(), ..Config::default() }
    }

    /// Whether all values can be used; the error names the key and says what is wrong with its value.
    /// [`crate::Images::open`] checks the same.
    pub fn check(&self) -> Result<(), String> {
        Rules::new(&self.policy, &self.pinned).map(drop)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            root: PathBuf::from("/var/lib/cri-wasm/images"),
            insecure_registries: Vec::new(),
            certs_dirs: ["/etc/cri-wasm/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d"].map(PathBuf::from).to_vec(),
            max_parallel_downloads: 3,
            max_parallel_compiles: 1,
            compile: CompileMode::AtPull,
            max_compiled: 32,
            policy: Policy::default(),
            pinned: Vec::new(),
            read_timeout: Duration::from_secs(60),
            download_retries: 5,
            keep_partials: Duration::from_secs(24 * 3600),
            keep_layers: Duration::from_secs(3600),
            unfinished_bytes: 8 << 30,
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
    /// Bytes that one byte of a blob may unpack to, where these are above 64 MiB. 1,000: deflate reaches 1,032 with
    /// nothing but zeros, and real layers rarely 20.
    pub ratio: u64,
    /// Entries of one layer. 500,000: a full desktop system has about 300,000; each costs an inode.
    pub entries: u64,
    /// Bytes of one path inside an image. 4,096, the kernel's own limit.
    pub path_bytes: usize,
    /// Directories above a file. 128: removing a tree holds a descriptor for each.
    pub depth: usize,
    /// Wasm files that one image may show; each is written down. 256.
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
            ratio: 1000,
            entries: 500_000,
            path_bytes: 4096,
            depth: 128,
            modules: 256,
        }
    }
}
