//! The configuration: every key, its default and its reason, and how a file is read.
//!
//! A key's doc comment is the text that `cri-wasm config` prints above it and that docs/configuration.md carries: the
//! [`section!`] macro keeps type, default and words in one place, so they cannot drift apart. Values come from the
//! defaults, then from the file, then from the command line ([`Overrides`]). An unknown key is an error, because a
//! misspelt limit that is silently not there is worse than a daemon that does not start.

#[macro_use]
mod section;
mod error;
mod images;
mod load;
mod observe;
mod render;
mod streaming;

pub use error::ConfigError;
pub use images::{Compile, CompileWhen, Images, Trust, Verifier};
pub use load::Overrides;
pub use observe::{Metrics, Tracing};
pub use render::reference;
pub use streaming::Streaming;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::forbidden::is_name;
use crate::container::service;
use crate::sandbox::egress;

/// The file that is read where `--config` names none, if it is there.
pub const DEFAULT_FILE: &str = "/etc/cri-wasm/config.toml";

section! {
    /// The whole configuration.
    pub struct Config {
        /// Where images, compiled code, container files and the mirror of the records lie: a disk that outlives a
        /// reboot, on a filesystem that overlayfs accepts for writing.
        pub root: PathBuf = PathBuf::from("/var/lib/cri-wasm"),
        /// Where the live records, sockets and namespaces lie. It should be on tmpfs: a commit costs 30 µs there, and a
        /// reboot takes it along with the pods it describes.
        pub state: PathBuf = PathBuf::from("/run/cri-wasm"),
        /// The socket that the kubelet and crictl talk to. Unset: `cri-wasm.sock` in the state directory.
        pub socket: Option<PathBuf> = None,
        /// The permissions of the socket, octal. Whoever may write to it is root on this node.
        pub socket_mode: String = "0660".to_owned(),
        /// The group that owns the socket, a name or a number.
        pub socket_group: String = "root".to_owned(),
        /// Whether the CRI also answers as `runtime.v1alpha2`, for kubelets 1.20 to 1.22.
        pub v1alpha2: bool = false,
        /// How long a daemon that was told to stop lets running calls finish, in seconds. Pods run on in any case.
        pub drain_seconds: u64 = 10,
        /// What the daemon writes to its standard error.
        pub log: Log = Log::default(),
        /// The runtime handlers that a RuntimeClass may name, a table each; `""` is for pods without a RuntimeClass.
        /// A file that has any of these tables replaces all three defaults.
        pub handlers: BTreeMap<String, Handler> = default_handlers(),
        /// How pods get their network, through CNI.
        pub network: Network = Network::default(),
        /// The server of exec, attach and port-forward, to which the kubelet sends its clients' connections.
        pub streaming: Streaming = Streaming::default(),
        /// The daemon's own numbers, for Prometheus.
        pub metrics: Metrics = Metrics::default(),
        /// Traces: a span for each RPC, with its slow steps below it, part of the kubelet's trace where that sends one.
        pub tracing: Tracing = Tracing::default(),
        /// Where images come from, and how large they may be.
        pub images: Images = Images::default(),
        /// Which images may be pulled.
        pub trust: Trust = Trust::default(),
        /// When wasm files are compiled, and the bounds of the process that compiles one, which is untrusted input.
        pub compile: Compile = Compile::default(),
        /// Control groups.
        pub cgroup: Cgroup = Cgroup::default(),
        /// Bounds of every container.
        pub limits: Limits = Limits::default(),
    }
}

section! {
    /// What the daemon writes to its standard error.
    pub struct Log {
        /// The least that is written: `error`, `warn`, `info`, `debug` or `trace`. The environment variable RUST_LOG
        /// goes before it and can name modules (`info,cri_wasm::network=debug`).
        pub level: LogLevel = LogLevel::Info,
        /// `text` for people and journald, `json` for collectors: one object a line.
        pub format: LogFormat = LogFormat::Text,
    }
}

section! {
    /// One runtime handler.
    pub struct Handler {
        /// Whether guests see `/proc`, read-only: that of a PID namespace of the mode that the pod asks for. For images that
        /// expect it; a guest can read more about its own process then than WebAssembly would tell it.
        pub procfs: bool = false,
        /// Whether guests run under the runtime's own filter of system calls: `always`, or `as-asked`, where a pod that asks
        /// for `Unconfined`, for no profile at all or to be privileged runs without it, as in other runtimes. A profile of the
        /// pod's own comes on top in either case.
        pub seccomp: Seccomp = Seccomp::Always,
        /// Where guests may connect to: networks (`10.0.0.0/8`), addresses, names or the names of a domain (`*.example.com`), each with
        /// or without a port. Names are for HTTP requests; sockets know addresses alone. Unset: wherever the network lets
        /// them. A pod's annotation `cri-wasm.dev/egress`, such a list with commas, can narrow it.
        pub egress: Option<Vec<String>> = None,
        /// Where components listen that answer HTTP requests: a port, `:PORT` or an address with a port. Unset: the first TCP port
        /// that the container declares, else 8080. A container's own `CRI_WASM_HTTP_ADDR` goes before it.
        pub http_address: String = String::new(),
        /// How many requests such a container works on at once, each in an instance of its own.
        pub http_max_requests: u32 = 256,
        /// How many more may wait for their turn. The next one is answered with 503.
        pub http_max_queued: u32 = 1024,
        /// How many connections it has at once. Others wait to be accepted.
        pub http_max_connections: u32 = 4096,
        /// How long an answer may take until its status and headers are there, in seconds; then the instance is given up, and the
        /// client gets 504. Also how long an instance may go on when its client has gone.
        pub http_request_timeout_seconds: u64 = 60,
        /// How much linear memory an instance may have, in bytes, 0 for no bound but the container's.
        pub http_max_instance_memory: u64 = 0,
        /// How many requests an instance answers, one after the other. With 1, no request sees what another has left in memory.
        pub http_requests_per_instance: u32 = 1,
        /// How long an instance that may answer more requests waits for the next one, in seconds.
        pub http_instance_idle_seconds: u64 = 10,
        /// Whether each request is a line of the container's log.
        pub http_access_log: bool = false,
        /// What guests write for a profiler: `off`, `perf` (a map of functions for perf), `jitdump` (for `perf inject`), or `guest`
        /// (samples of a service, for profiler.firefox.com). Into the container's own files; docs/guests-tuning.md.
        pub profile: Profile = Profile::Off,
        /// Whether pods may ask for a profile by the annotation `cri-wasm.dev/profile`.
        pub profile_by_annotation: bool = false,
        /// What programs may not import: packages (`wasi:sockets`), interfaces (`wasi:http/outgoing-handler`), with or without
        /// a version, and modules or functions of core modules (`wasi_snapshot_preview1.sock_accept`). A program that does is
        /// refused when its container is created, and so is its exec.
        pub forbidden_interfaces: Vec<String> = Vec::new(),
    }
}

impl Handler {
    /// What is wrong with it: the key, its value and the reason.
    fn check(&self) -> Result<(), (&'static str, String, String)> {
        let refuse = |key, value: &dyn ToString, reason: String| Err((key, value.to_string(), reason));
        if let Err(error) = egress::check(self.egress.iter().flatten().map(String::as_str)) {
            return refuse("handlers.egress", &self.egress.clone().unwrap_or_default().join(", "), error.to_string());
        }
        if let Err(error) = service::check_address(&self.http_address) {
            return refuse("handlers.http_address", &self.http_address, error.to_string());
        }
        if let Some(entry) = self.forbidden_interfaces.iter().find(|entry| !is_name(entry)) {
            let reason = "it is no name of an interface or a package, such as \"wasi:sockets\"";
            return refuse("handlers.forbidden_interfaces", entry, reason.to_owned());
        }
        // More would reserve more address space than a process has.
        if !(1..=10_000).contains(&self.http_max_requests) {
            return refuse("handlers.http_max_requests", &self.http_max_requests, "it is 1 to 10000".to_owned());
        }
        let at_least_one = [
            ("handlers.http_max_connections", u64::from(self.http_max_connections)),
            ("handlers.http_request_timeout_seconds", self.http_request_timeout_seconds),
            ("handlers.http_requests_per_instance", self.http_requests_per_instance.into()),
        ];
        match at_least_one.into_iter().find(|(_, value)| *value == 0) {
            Some((key, value)) => refuse(key, &value, "it is at least 1".to_owned()),
            None => Ok(()),
        }
    }
}

section! {
    /// How pods get their network, through CNI.
    pub struct Network {
        /// Where CNI network configurations lie; the first by name is used.
        pub conf_dir: PathBuf = PathBuf::from("/etc/cni/net.d"),
        /// Where CNI plugins are looked for, in this order. The second is where Debian has them.
        pub bin_dirs: Vec<PathBuf> = vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
        /// Where results of CNI plugins are kept for their CHECK and DEL. Unset: `cni` in the root directory. Not
        /// shared with another runtime, whose pods a garbage collection would take for leftovers.
        pub cache_dir: Option<PathBuf> = None,
        /// Where the network namespaces of pods are pinned. Unset: `netns` in the state directory.
        pub netns_dir: Option<PathBuf> = None,
        /// How long one CNI plugin may take, in seconds, before it is killed. The kubelet itself waits four minutes for
        /// a whole pod.
        pub plugin_timeout_seconds: u64 = 60,
    }
}

section! {
    /// Control groups.
    pub struct Cgroup {
        /// Who makes the groups: `cgroupfs` (the runtime itself), `systemd` (scopes in the pods' slices, over D-Bus; systemd 244
        /// or later), or `auto`, which is systemd where that runs the node. A kubelet asks for it; one that does not
        /// must have the same `cgroupDriver`.
        pub driver: String = "auto".to_owned(),
        /// The parent of pods that name none, which the kubelet's always do: a path, or with systemd the name of a slice, such
        /// as `wasm.slice`.
        pub default_parent: String = "/cri-wasm".to_owned(),
        /// How many processes and threads there may be in each container's group, 0 for no bound of its own. The kubelet's
        /// `podPidsLimit` bounds the pod's in any case.
        pub max_tasks: u32 = 0,
        /// Whether the kernel's option `favordynmods` is set on nodes with cgroup v1. It is node-wide. Without it, each
        /// start of a container waits for a grace period of the kernel, about 10 ms; with it, forks cost a little more
        /// on kernels before 6.18.
        pub favor_fast_joins: bool = true,
    }
}

section! {
    /// Bounds of every container.
    pub struct Limits {
        /// How many files a guest's process may have open.
        pub max_open_files: u64 = 65_536,
    }
}

/// When guests run under the runtime's own filter of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// Whatever the pod asks for.
    Always,
    /// Not where the pod asks for none.
    AsAsked,
}

/// What guests write for a profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Nothing.
    Off,
    /// `/tmp/perf-PID.map`
    Perf,
    /// `jit-PID.dump`
    Jitdump,
    /// `profile.PID.json`
    Guest,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warn,
    /// What was done.
    Info,
    /// How it was done.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name, as the file and RUST_LOG have it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object.
    Json,
}

fn default_handlers() -> BTreeMap<String, Handler> {
    BTreeMap::from([
        (String::new(), Handler::default()),
        ("wasm".to_owned(), Handler::default()),
        ("wasm-compat".to_owned(), Handler { procfs: true, ..Handler::default() }),
    ])
}

impl Config {
    /// Reads `file`, which must be there, or [`DEFAULT_FILE`] if that is there; then puts the command line's values
    /// over it, fills in the paths that follow from others, and checks every value.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Config, ConfigError> {
        load::load(file, Path::new(DEFAULT_FILE), overrides)
    }

    /// The effective configuration as a file of its own: each key under its comment.
    pub fn render(&self) -> String {
        render::render(self)
    }

    /// The CRI socket.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.state.join("cri-wasm.sock"))
    }

    /// The permissions of the CRI socket. The text was checked when the configuration was loaded.
    pub fn socket_mode(&self) -> u32 {
        load::parse_mode(&self.socket_mode).unwrap_or(0o600)
    }

    /// Where results of CNI plugins are kept.
    pub fn cni_cache_dir(&self) -> PathBuf {
        self.network.cache_dir.clone().unwrap_or_else(|| self.root.join("cni"))
    }

    /// Where network namespaces are pinned.
    pub fn netns_dir(&self) -> PathBuf {
        self.network.netns_dir.clone().unwrap_or_else(|| self.state.join("netns"))
    }
}

#[cfg(test)]
mod tests;
