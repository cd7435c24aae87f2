//! What is known of the configuration, and keeping it up to date.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::list::{Loaded, NetworkList, load};
use super::watch::Watcher;
use super::{Network, NetworkError, NetworkStatus, health};

/// The reason that kubelets and people know from other runtimes.
const NOT_READY: &str = "NetworkPluginNotReady";

/// Installers write several files one after the other.
const SETTLE: Duration = Duration::from_millis(50);

/// How old the plugins' word may be when somebody asks. A kubelet asks every
/// 5 to 10 s; a node that waits for its network should not wait for us.
const FRESH: Duration = Duration::from_secs(10);
const FRESH_WHILE_NOT_READY: Duration = Duration::from_secs(1);

/// How often to look where the kernel cannot tell of changes.
const BLIND_LOOK: Duration = Duration::from_secs(5);

/// The configuration and whether it works.
pub(super) struct State {
    loaded: Loaded,
    health: Health,
    looked: Option<Instant>,
}

enum Health {
    /// Nobody has asked the plugins of this configuration yet.
    Unknown,
    Good,
    Bad(String),
}

impl State {
    pub(super) fn new(loaded: Loaded) -> State {
        State { loaded, health: Health::Unknown, looked: None }
    }

    pub(super) fn network(&self) -> Option<Arc<NetworkList>> {
        self.loaded.network.clone()
    }

    fn replace(&mut self, loaded: Loaded) {
        if loaded.network != self.loaded.network {
            match &loaded.network {
                Some(list) => tracing::info!(network = list.name, version = %list.version, "pod network configured"),
                None => tracing::warn!("there is no pod network any more"),
            }
            *self = State::new(loaded);
        } else {
            self.loaded.broken = loaded.broken;
        }
    }

    /// Takes the plugins' word for a network, unless it is another's by now.
    fn judge(&mut self, list: &Arc<NetworkList>, verdict: Result<(), String>) {
        if self.loaded.network.as_ref() != Some(list) {
            return;
        }
        self.looked = Some(Instant::now());
        self.health = match verdict {
            Ok(()) => Health::Good,
            Err(why) => {
                if !matches!(&self.health, Health::Bad(known) if *known == why) {
                    tracing::warn!(network = list.name, why, "pod network is not ready");
                }
                Health::Bad(why)
            }
        };
    }

    fn is_fresh(&self) -> bool {
        let limit = if matches!(self.health, Health::Good) { FRESH } else { FRESH_WHILE_NOT_READY };
        self.looked.is_some_and(|looked| looked.elapsed() < limit)
    }

    pub(super) fn status(&self, conf_dir: &Path) -> NetworkStatus {
        let mut message = match (&self.loaded.network, &self.health) {
            (Some(_), Health::Good) => String::new(),
            (Some(list), Health::Unknown) => format!("the plugins of network {} have not been asked yet", list.name),
            (Some(list), Health::Bad(why)) => format!("network {}: {why}", list.name),
            (None, _) => {
                let dir = conf_dir.display();
                format!(
                    "no usable CNI configuration in {dir}: let a network add-on install one, or write a .conflist \
                     there; until then only pods with hostNetwork run"
                )
            }
        };
        for broken in &self.loaded.broken {
            if !message.is_empty() {
                message.push_str("; ");
            }
            message.push_str("broken file ");
            message.push_str(broken);
        }
        let ready = self.loaded.network.is_some() && matches!(self.health, Health::Good);
        let reason = if ready { String::new() } else { NOT_READY.to_owned() };
        NetworkStatus { ready, reason, message }
    }
}

impl Network {
    /// Keeps the configuration and the status up to date until told to stop.
    /// Plugins are asked after a change of the configuration, and when somebody
    /// wants the status and the last answer is old.
    pub async fn watch(&self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                let watcher = self.watcher().await;
                // Errors are those of a daemon that ends.
                let _ = self.refresh().await;
                self.until_changed(watcher).await;
                sleep(SETTLE).await;
            }
        })
        .await;
    }

    /// Reads the configuration and asks the plugins now.
    ///
    /// # Errors
    /// Only when the daemon ends meanwhile; the outcome is in the status.
    pub async fn refresh(&self) -> Result<(), NetworkError> {
        self.reload().await?;
        self.ask_plugins().await;
        Ok(())
    }

    /// The network that pods are attached to, read anew if there was none.
    pub(super) async fn current(&self) -> Result<Option<Arc<NetworkList>>, NetworkError> {
        if let Some(network) = self.state(|state| state.network()) {
            return Ok(Some(network));
        }
        self.reload().await?;
        Ok(self.state(|state| state.network()))
    }

    async fn reload(&self) -> Result<(), NetworkError> {
        let loaded = self.on_disk(|inner| load(&inner.config.conf_dir)).await?;
        self.state(|state| state.replace(loaded));
        Ok(())
    }

    async fn ask_plugins(&self) {
        if let Some(list) = self.state(|state| state.network()) {
            let verdict = health::check(&self.inner.launcher, &list, &self.inner.known_versions).await;
            self.state(|state| state.judge(&list, verdict));
        }
    }

    async fn watcher(&self) -> io::Result<Watcher> {
        let made = self.on_disk(|inner| Watcher::new(&inner.config.conf_dir)).await;
        made.map_err(io::Error::other).and_then(|watcher| watcher).inspect_err(|error| {
            tracing::warn!(%error, "changes of the CNI configuration cannot be watched, looking every few seconds");
        })
    }

    async fn until_changed(&self, mut watcher: io::Result<Watcher>) {
        let change = async {
            match &mut watcher {
                Ok(watcher) => {
                    if let Err(error) = watcher.changed().await {
                        tracing::warn!(%error, "cannot read changes of the CNI configuration");
                        sleep(BLIND_LOOK).await;
                    }
                }
                Err(_) => sleep(BLIND_LOOK).await,
            }
        };
        let questions = async {
            loop {
                self.inner.asked.notified().await;
                if !self.state(|state| state.is_fresh()) {
                    self.ask_plugins().await;
                }
            }
        };
        tokio::select! {
            () = change => {}
            () = questions => {}
        }
    }
}
