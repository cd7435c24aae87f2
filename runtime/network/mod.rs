//! Pod networks, through CNI plugins.
//!
//! This room owns the runtime's half of the Container Network Interface, from
//! specification 0.3.0 to 1.1.0: which configuration counts, which plugins run
//! with what, and what must be remembered of it; and the network namespaces
//! ([`netns`]) that pods live in. It knows nothing of CRI messages.
//!
//! An attachment's life:
//! ```text
//!              record written        all plugins          record deleted
//!                without result        called
//! (nothing) ──────── add ────────▶ attached ──── remove ────▶ (nothing)
//!                      │              ▲  │                        ▲
//!                a plugin fails       │  └ a plugin fails: stays ─┤
//!                      │            check                         │
//!                      └── DEL of those called, in reverse ───────┘
//! ```
//! What a daemon that was killed has left in the middle has a record, and goes
//! with [`Network::remove`] or [`Network::collect`].

mod attach;
pub mod bandwidth;
mod cache;
mod chain;
mod collect;
mod error;
mod health;
pub mod host_port;
mod list;
#[allow(unsafe_code, reason = "a namespace is made with unshare(2), which rustix marks unsafe")]
pub mod netns;
mod plugin;
mod pod;
mod result;
mod spec_version;
mod state;
#[cfg(test)]
mod tests;
mod turns;
mod watch;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub use cache::CacheError;
pub use error::{NetworkError, PluginError, PluginFailure, full_text};
pub use netns::NetnsError;
pub use plugin::Command;
pub use pod::{Dns, INTERFACE, PodNetwork, PortMapping, Protocol};
pub use result::{Attachment, ResultError};

use cache::Cache;
use health::KnownVersions;
use plugin::Launcher;
use state::State;
use turns::Turns;

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Network configurations.
    pub conf_dir: PathBuf,
    /// Plugins, in the order of looking.
    pub bin_dirs: Vec<PathBuf>,
    /// libcni's cache. It may be shared with other runtimes.
    pub cache_dir: PathBuf,
    /// Where the namespaces of this daemon's pods are pinned. It may be shared
    /// with others' namespaces, but not with another daemon of this kind: what
    /// lies here under our prefix is ours to collect.
    pub netns_dir: PathBuf,
    /// How long one call of one plugin may take.
    pub plugin_timeout: Duration,
}

impl Default for NetworkConfig {
    /// The places that Kubernetes' network add-ons write to, and Debian's
    /// plugins; a timeout that leaves the kubelet's own (2 minutes for a
    /// sandbox) room for a chain and for taking it back.
    fn default() -> NetworkConfig {
        NetworkConfig {
            conf_dir: PathBuf::from("/etc/cni/net.d"),
            bin_dirs: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
            cache_dir: PathBuf::from("/var/lib/cni"),
            netns_dir: PathBuf::from("/run/netns"),
            plugin_timeout: Duration::from_secs(30),
        }
    }
}

/// Whether pods with a network of their own can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkStatus {
    /// They can.
    pub ready: bool,
    /// Empty, or a word for why not.
    pub reason: String,
    /// Why not and what to do, or what was found broken and passed over.
    pub message: String,
}

/// The node's pod network. Clones are the same.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    config: NetworkConfig,
    launcher: Launcher,
    cache: Cache,
    turns: Turns,
    state: Mutex<State>,
    known_versions: KnownVersions,
    /// Somebody has asked for the status.
    asked: Notify,
    /// The sandboxes that this daemon has attached and not removed, and the
    /// names of their networks.
    attached: Mutex<HashMap<String, String>>,
}

impl Network {
    /// Looks at the configuration directory once. Without [`Network::watch`] or
    /// [`Network::refresh`] the plugins themselves are not asked, and the status
    /// is not ready.
    ///
    /// # Errors
    /// A setting is unusable. A broken or missing configuration is no error.
    pub fn new(config: NetworkConfig) -> Result<Network, NetworkError> {
        let setting = |setting, why| Err(NetworkError::Setting { setting, why });
        for (name, dir) in [("conf_dir", &config.conf_dir), ("cache_dir", &config.cache_dir), ("netns_dir", &config.netns_dir)] {
            if !dir.is_absolute() {
                return setting(name, "must be an absolute path");
            }
        }
        if config.bin_dirs.is_empty() {
            return setting("bin_dirs", "must name at least one directory");
        }
        // They become CNI_PATH, which colons divide.
        if config.bin_dirs.iter().any(|dir| !dir.is_absolute() || dir.to_string_lossy().contains(':')) {
            return setting("bin_dirs", "must be absolute paths without colons");
        }
        if config.plugin_timeout.is_zero() {
            return setting("plugin_timeout", "must be longer than nothing");
        }
        let inner = Inner {
            launcher: Launcher { bin_dirs: config.bin_dirs.clone(), timeout: config.plugin_timeout },
            cache: Cache::new(&config.cache_dir),
            turns: Turns::default(),
            state: Mutex::new(State::new(list::load(&config.conf_dir))),
            known_versions: KnownVersions::default(),
            asked: Notify::new(),
            attached: Mutex::default(),
            config,
        };
        Ok(Network { inner: Arc::new(inner) })
    }

    /// What is known at the moment. It waits for nothing; that somebody has
    /// asked makes [`Network::watch`] look again.
    pub fn status(&self) -> NetworkStatus {
        self.inner.asked.notify_one();
        self.state(|state| state.status(&self.inner.config.conf_dir))
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.inner.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn attached<T>(&self, work: impl FnOnce(&mut HashMap<String, String>) -> T) -> T {
        work(&mut self.inner.attached.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets the disk be waited for elsewhere.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> T + Send + 'static) -> Result<T, NetworkError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| NetworkError::Interrupted)
    }
}
