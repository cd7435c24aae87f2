//! The keys about images: where they come from, which are trusted, and how they are compiled.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

section! {
    /// Where images come from, and how large they may be.
    pub struct Images {
        /// Registries (`host` or `host:port`) that are spoken to by plain HTTP. Loopback addresses need
        /// not be named: they are tried with HTTPS first, then with HTTP.
        pub insecure_registries: Vec<String> = Vec::new(),
        /// Directories of `HOST/hosts.toml` files: mirrors, certificate authorities, client certificates and headers of
        /// registries, as containerd reads them. The first that has a directory for a registry decides about it.
        pub certs_dirs: Vec<PathBuf> =
            ["/etc/cri-wasm/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d"].map(PathBuf::from).into(),
        /// Images that the kubelet is asked not to collect as garbage: references, or scopes as in `[trust]`. They can
        /// still be removed by hand.
        pub pinned: Vec<String> = Vec::new(),
        /// How long a registry may be silent in the middle of an answer, in seconds. A proxy that fetches a layer first
        /// is silent for some time.
        pub read_timeout_seconds: u64 = 60,
        /// How many layers are downloaded at once, over all pulls.
        pub max_parallel_downloads: u32 = 3,
        /// How many compile processes run at once, over all pulls. Each of them uses every processor it can get.
        pub max_parallel_compiles: u32 = 1,
        /// The largest manifest or image configuration, in bytes. Registries must take manifests of 4 MiB
        /// (distribution-spec), and few take more.
        pub max_manifest_bytes: u64 = 4 << 20,
        /// The largest layer as it is downloaded, in bytes: above any image that wasm is shipped in.
        pub max_layer_bytes: u64 = 8 << 30,
        /// The largest layer once it is unpacked, in bytes: what a small download may grow to.
        pub max_unpacked_bytes: u64 = 32 << 30,
        /// The most files and directories in one layer. A full desktop system has about 300,000.
        pub max_entries: u64 = 500_000,
        /// The most layers of an image. Docker builds no more than this.
        pub max_layers: u32 = 127,
        /// The longest path in an image, in bytes: the kernel's own limit.
        pub max_path_bytes: u32 = 4096,
        /// The most wasm files of an image, and of one layer.
        pub max_modules: u32 = 256,
        /// What unfinished pulls may keep on the disk for their next try, in bytes: once for layers that have not come
        /// to their end, and once for finished ones.
        pub max_unfinished_bytes: u64 = 8 << 30,
        /// How many bytes one compressed byte of a layer may unpack to. Real files stay below 100; it is looked at once
        /// a layer has unpacked to 64 MiB.
        pub max_ratio: u64 = 1000,
    }
}

section! {
    /// When wasm files are compiled, and the bounds of the process that compiles one, which is untrusted input.
    pub struct Compile {
        /// `pull`: an image is compiled before its pull ends, so that containers start in milliseconds and a module
        /// that cannot run fails where the kubelet says so. `start`: each file when it is first started.
        pub when: CompileWhen = CompileWhen::Pull,
        /// How many wasm files of one image are compiled at pull, its entrypoint before all others. The rest is
        /// compiled when it is first started.
        pub max_at_pull: u32 = 32,
        /// The memory of a compile process, in bytes. Compiling takes many times the size of the module.
        pub memory_bytes: u64 = 2 << 30,
        /// The processor time of a compile process, in seconds, over all its threads.
        pub cpu_seconds: u64 = 300,
        /// How long a compile process may take by the clock, in seconds.
        pub wall_seconds: u64 = 300,
    }
}

section! {
    /// Which images may be pulled.
    pub struct Trust {
        /// What may be pulled: registries (`ghcr.io`, `*.example.com`), namespaces (`ghcr.io/org`) or repositories, whole
        /// components each. Empty: everything that is not denied.
        pub allow: Vec<String> = Vec::new(),
        /// What may not be pulled, in the same form. It goes before `allow`.
        pub deny: Vec<String> = Vec::new(),
        /// Programs that are asked about an image before any of its layers is fetched, `[[trust.verifiers]]` each: the
        /// one with the most specific scope. docs/images.md says how they are called.
        pub verifiers: Vec<Verifier> = Vec::new(),
    }
}

impl Trust {
    /// As the image store takes it.
    pub fn policy(&self) -> images::Policy {
        let verifiers = self.verifiers.iter().map(|verifier| images::Verifier {
            scope: verifier.scope.clone(),
            program: verifier.program.clone(),
            args: verifier.args.clone(),
            timeout: Duration::from_secs(verifier.timeout_seconds),
        });
        images::Policy { allow: self.allow.clone(), deny: self.deny.clone(), verifiers: verifiers.collect() }
    }
}

/// One external verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verifier {
    /// For which images, in the form of [`Trust::allow`]; `*` for all.
    pub scope: String,
    /// An absolute path.
    pub program: PathBuf,
    /// Arguments before those that say what the image is.
    #[serde(default)]
    pub args: Vec<String>,
    /// How long it may take. One that takes longer is killed, and the image refused.
    #[serde(default = "verifier_timeout")]
    pub timeout_seconds: u64,
}

fn verifier_timeout() -> u64 {
    30
}

/// When a wasm file is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompileWhen {
    /// Before the pull ends.
    Pull,
    /// At the first start.
    Start,
}
