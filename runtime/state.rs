//! All that the daemon has: its parts and the objects that it knows. Every RPC works on one [`Runtime`].

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use images::{Auth, Image, Images, Progress, PullError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cgroup::{Cgroup, CgroupPath, Cgroups, PathError, Version, unit};
use crate::config::Config;
use crate::container::{Container, Containers};
use crate::events::Events;
use crate::exec::Execs;
use crate::host::Host;
use crate::metrics::{self, Outcome, Timed, metrics};
use crate::network::Network;
use crate::network::host_port::HostPorts;
use crate::sandbox::{Sandbox, Sandboxes, userns};
use crate::stats::Stats;
use crate::store::{Names, Store, StoreError};
use crate::streaming::{Streaming, Taps};

/// Where the kernel names the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How long the last commit of the mirror may take: a disk under load, not one that does not answer.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

/// The rooms that the runtime works with, made by whoever starts the daemon.
pub struct Parts {
    /// The effective configuration.
    pub config: Config,
    /// Images and compiled code.
    pub images: Images,
    /// CNI; whoever made it watches its configuration.
    pub network: Network,
    /// Host ports that CNI does not map.
    pub host_ports: HostPorts,
    /// The node's control groups.
    pub cgroups: Cgroups,
    /// The supervisor.
    pub host: Host,
}

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory cannot hold records.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel does not say which boot this is.
    #[error("cannot read {BOOT_ID}")]
    BootId(#[source] std::io::Error),
    /// The guests cannot be looked at.
    #[error("cannot find the guests that run")]
    Scan(#[from] crate::host::HostError),
    /// The executor ended meanwhile.
    #[error("the daemon is shutting down")]
    Interrupted,
}

/// The daemon's state.
pub struct Runtime {
    /// The effective configuration.
    pub config: Config,
    /// Images and compiled code.
    pub images: Images,
    /// CNI.
    pub network: Network,
    /// Host ports that CNI does not map.
    pub host_ports: HostPorts,
    /// The node's control groups.
    pub cgroups: Cgroups,
    /// The supervisor.
    pub host: Host,
    /// The records.
    pub store: Arc<Store>,
    /// Sandboxes; one that is being created is not among them yet.
    pub sandboxes: Sandboxes,
    /// Containers.
    pub containers: Containers,
    /// What happens to sandboxes and containers; they are changed by turns.
    pub events: Events,
    /// Commands that run in containers beside their guests.
    pub execs: Execs,
    /// Whether pods can have user namespaces here.
    pub user_namespaces: userns::Support,
    /// Who is attached to which guest.
    pub taps: Taps,
    /// What measurements share.
    pub stats: Stats,
    /// Exec, attach and port-forward; set once the server listens.
    pub streaming: OnceLock<Streaming>,
    /// Names of sandboxes that are taken.
    pub sandbox_names: Arc<Names>,
    /// Names of containers that are taken.
    pub container_names: Arc<Names>,
    /// Cancelled when no more calls are taken: those under way may finish, those that have no end of their own end.
    pub closing: CancellationToken,
    /// Cancelled when the daemon ends.
    pub stop: CancellationToken,
    tasks: TaskTracker,
    /// The mirror outlives all other work, which it has to write down.
    mirror: TaskTracker,
    flush: CancellationToken,
}

impl Runtime {
    /// Reads the records, joins them with what runs, and starts what goes on in the background.
    ///
    /// When this returns every pod and container that was acknowledged is known again with its true state. What was half done
    /// when an earlier daemon ended is finished in the background.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, OpenError> {
        let boot_id = std::fs::read_to_string(BOOT_ID).map_err(OpenError::BootId)?.trim().to_owned();
        let live = parts.config.state.join("records.redb");
        let mirror = parts.config.root.join("records.redb");
        let opened = tokio::task::spawn_blocking(move || Store::open(&live, &mirror, &boot_id)).await;
        let (store, origin) = opened.map_err(|_| OpenError::Interrupted)??;
        let Parts { config, images, network, host_ports, cgroups, host } = parts;
        let runtime = Arc::new(Self {
            config,
            images,
            network,
            host_ports,
            cgroups,
            host,
            store: Arc::new(store),
            sandboxes: Sandboxes::default(),
            containers: Containers::default(),
            events: Events::default(),
            execs: Execs::default(),
            user_namespaces: userns::Support::default(),
            taps: Taps::default(),
            stats: Stats::default(),
            streaming: OnceLock::new(),
            sandbox_names: Arc::default(),
            container_names: Arc::default(),
            closing: CancellationToken::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            mirror: TaskTracker::new(),
            flush: CancellationToken::new(),
        });
        let store = Arc::clone(&runtime.store);
        let flush = runtime.flush.clone();
        runtime.mirror.spawn(async move { store.follow(flush).await });
        crate::recovery::recover(&runtime, origin).await?;
        let exits = runtime.host.exits();
        runtime.tasks.spawn(crate::events::follow_exits(Arc::clone(&runtime), exits));
        Ok(runtime)
    }

    /// Runs `work` to its end even if whoever waits for it goes away: a client's deadline must not leave half a pod.
    pub async fn run_to_end<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Lost> {
        use tracing::Instrument;
        self.tasks.spawn(work.in_current_span()).await.map_err(|error| Lost(error.to_string()))
    }

    /// Starts work that nobody waits for; the daemon's end does.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        use tracing::Instrument;
        self.tasks.spawn(work.in_current_span());
    }

    /// Ends the background: work under way has until `deadline`, then the mirror is brought up. Pods are not touched.
    pub async fn shutdown(&self, deadline: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "work is cut off; the next start finishes it");
        }
        self.flush.cancel();
        self.mirror.close();
        if tokio::time::timeout(FLUSH_DEADLINE, self.mirror.wait()).await.is_err() {
            tracing::warn!("the mirror of the records is not up to date; it counts only if the node restarts now");
        }
    }

    /// The containers of a sandbox, in the order of their ids.
    pub fn containers_of(&self, sandbox: &Sandbox) -> Vec<Arc<Container>> {
        sandbox.containers().iter().filter_map(|id| self.containers.get(id.as_str())).collect()
    }

    /// Pulls an image, counted; `progress` shows how far it is. Ends with its caller.
    pub async fn pull(&self, reference: &str, auth: Option<Auth>, progress: Option<&Progress>) -> Result<Arc<Image>, PullError> {
        let timed = Timed::new("canceled", |result, taken: Duration| {
            metrics().pulls.get_or_create(&Outcome { result }).inc();
            metrics().pull_duration.observe(taken.as_secs_f64());
        });
        let pulled = self.images.pull_with(reference, auth, progress).await;
        timed.end(if pulled.is_ok() { "ok" } else { "error" });
        if pulled.is_ok() {
            self.measure_images();
        }
        pulled
    }

    /// Notes what the image store takes now, where anybody wants to know.
    pub fn measure_images(&self) {
        if self.config.metrics.address.is_none() {
            return;
        }
        let images = self.images.clone();
        self.spawn(async move {
            match images.usage().await {
                Ok(usage) => metrics::image_store(&images, usage.used_bytes),
                Err(error) => tracing::debug!(%error, "the image store is not measured"),
            }
        });
    }

    /// The group of a container; `None` where the node has no cgroups.
    pub fn cgroup_of(&self, container: &Container) -> Option<Cgroup> {
        self.cgroup_at(&container.metadata().cgroup)
    }

    /// The group that is a sandbox's alone; `None` where it has none.
    pub fn cgroup_of_sandbox(&self, sandbox: &Sandbox) -> Option<Cgroup> {
        let metadata = sandbox.metadata();
        if metadata.cgroup_owned { self.cgroup_at(&metadata.cgroup_parent) } else { None }
    }

    /// The path of the cgroup that a sandbox's containers get theirs in, and whether it is the sandbox's alone.
    pub fn cgroup_parent(&self, asked: &str, sandbox: &str) -> Result<(CgroupPath, bool), PathError> {
        let parent = if asked.is_empty() { self.config.cgroup.default_parent.as_str() } else { asked };
        let path = match self.cgroups.systemd() {
            Some(_) if unit::is_slice(parent) => unit::slice_path(parent)?,
            _ => CgroupPath::from_cri(parent)?,
        };
        if asked.is_empty() { Ok((unit::of_pod(&path, sandbox)?, true)) } else { Ok((path, false)) }
    }

    /// The group at a recorded path; `None` where the node has no cgroups, or nothing was recorded.
    pub fn cgroup_at(&self, path: &str) -> Option<Cgroup> {
        if self.cgroups.version() == Version::None || path.is_empty() {
            return None;
        }
        // It was a path when it was recorded.
        CgroupPath::recorded(path).ok().map(|path| self.cgroups.open(&path))
    }

    /// Directory in the state directory for what a container needs while it is there.
    pub fn container_state(&self, container: &Container) -> PathBuf {
        self.config.state.join("containers").join(container.id().as_str())
    }
}

/// Work that ended without an answer: it panicked, or the executor is going.
#[derive(Debug, thiserror::Error)]
#[error("the work was lost: {0}")]
pub struct Lost(pub(crate) String);
