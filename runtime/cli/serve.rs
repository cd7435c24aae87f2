//! `cri-wasm serve`: puts the daemon together, runs it until it is told to stop, and takes it apart in the reverse order.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use images::Images;
use rustix::fs::FlockOperation;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ConfigArgs;
use crate::cgroup::systemd::Systemd;
use crate::cgroup::{self, Cgroup, CgroupPath, Cgroups, PathError, unit};
use crate::compiler::{CompileLimits, ProcessCompiler};
use crate::config::{CompileWhen, Config};
use crate::host::{Host, HostConfig};
use crate::metrics;
use crate::network::host_port::HostPorts;
use crate::network::{Network, NetworkConfig};
use crate::server;
use crate::state::{Parts, Runtime};
use crate::streaming;
use crate::traces::Traces;

pub(super) fn run(arguments: &ConfigArgs) -> anyhow::Result<()> {
    let config = arguments.load()?;
    share_heaps();
    let traces = Traces::new(&config.tracing);
    crate::logging::init(&config.log, traces.as_ref())?;
    // What is made in here belongs to the daemon: modes are set where they differ, and must not depend on who started it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().min(4)))
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()?;
    runtime.block_on(daemon(config, traces)).inspect_err(|error| tracing::error!("{error:#}"))
}

/// Keeps the daemon small: the C library gives each new thread a heap of its own, up to eight for each processor, and returns little of
/// one that was busy once. Threads of the daemon come and go with blocking calls and allocate next to nothing at the same time.
#[allow(unsafe_code, reason = "mallopt")]
fn share_heaps() {
    const HEAPS: libc::c_int = 2;
    // SAFETY: no other thread runs yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

async fn daemon(config: Config, traces: Option<Traces>) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the daemon must run as root: it makes namespaces, mounts and cgroups");
    }
    let drain = Duration::from_secs(config.drain_seconds);
    let _lock = lock(&config.state)?;
    std::fs::create_dir_all(&config.root).with_context(|| format!("making {}", config.root.display()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());

    if let Some(traces) = traces {
        tasks.spawn(traces.export(stop.clone()));
    }
    let cgroups = Cgroups::detect().context("looking at the node's cgroups")?;
    if config.cgroup.favor_fast_joins
        && let Err(error) = cgroups.favor_fast_joins()
    {
        tracing::warn!(%error, "each start of a container waits for a grace period of the kernel");
    }
    let cgroups = driven(cgroups, &config)?;
    let supervisor_cgroup = supervisor_cgroup(&cgroups, &config);
    let compile_cgroup = compile_cgroup(&cgroups, &config);
    let host = HostConfig {
        state: config.state.clone(),
        program: std::env::current_exe().context("finding this program's own file")?,
        cgroup: supervisor_cgroup.as_ref().map(|[group, _]| group.clone()),
    };
    let host = Host::open(host, stop.clone(), tasks.clone()).await?;
    let compiler = ProcessCompiler {
        program: std::env::current_exe()?,
        fingerprint: host.engine_fingerprint().context("the supervisor went away at once")?,
        limits: CompileLimits {
            memory_bytes: config.compile.memory_bytes,
            cpu_seconds: config.compile.cpu_seconds,
            wall: Duration::from_secs(config.compile.wall_seconds),
        },
        cgroup: compile_cgroup.clone(),
    };
    let images = Images::open(images_config(&config), Arc::new(compiler)).await.context("opening the image store")?;
    let network = Network::new(network_config(&config))?;
    let watched = network.clone();
    let watch_stop = stop.clone();
    tasks.spawn(async move { watched.watch(watch_stop).await });

    let socket = config.socket();
    let listener = server::bind(&socket, config.socket_mode(), &config.socket_group)?;
    let v1alpha2 = config.v1alpha2;
    let host_ports =
        HostPorts { program: std::env::current_exe()?, cgroup: supervisor_cgroup.as_ref().map(|[group, _]| group.clone()) };
    let parts = Parts { config, images, network, host_ports, cgroups, host: host.clone() };
    let runtime = Runtime::open(parts).await?;
    streaming::serve(&runtime, runtime.stop.clone(), &tasks).await?;
    if let Some(address) = runtime.config.metrics.listen() {
        let sources = metrics::Sources { images: runtime.images.clone() };
        runtime.measure_images();
        tasks.spawn(metrics::serve(address, sources, runtime.stop.clone()));
    }
    tracing::info!(socket = %socket.display(), version = env!("CARGO_PKG_VERSION"), "serving the CRI");
    // Not under systemd: nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let closing = runtime.closing.clone();
    let routes = Arc::clone(&runtime).services();
    let served = tokio::spawn(server::serve(listener, socket, routes, v1alpha2, closing.clone(), drain));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("shutting down; pods run on");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    closing.cancel();
    served.await??;
    runtime.shutdown(drain).await;
    if host.retire_if_idle().await {
        remove_idle(compile_cgroup.into_iter().chain(supervisor_cgroup.into_iter().flatten()).collect()).await;
    }
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        tracing::warn!("background work was cut off");
    }
    Ok(())
}

/// One daemon per state directory.
fn lock(state: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(state).with_context(|| format!("making {}", state.display()))?;
    // Others may pass through, to sockets that have modes of their own, but not list it.
    rustix::fs::chmod(state, rustix::fs::Mode::from_raw_mode(0o711))?;
    let path = state.join("lock");
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!("another daemon works in {}; give this one a state directory of its own (--state)", state.display())
        }
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// The node's groups, with whoever makes them.
fn driven(cgroups: Cgroups, config: &Config) -> anyhow::Result<Cgroups> {
    let (driver, running) = (config.cgroup.driver.as_str(), Systemd::is_running());
    if driver == "cgroupfs" || driver == "auto" && !running {
        return Ok(cgroups);
    }
    let systemd = Systemd::of_the_node();
    match systemd.ping() {
        Ok(()) => {
            tracing::info!("systemd makes the pods' cgroups");
            Ok(cgroups.with_systemd(systemd))
        }
        Err(error) if driver == "systemd" => Err(error).context("asking systemd, as [cgroup] driver has it"),
        Err(error) => {
            let error = crate::store::chain(&error);
            tracing::warn!(error, "systemd runs this node and does not answer: the runtime makes the pods' cgroups itself");
            Ok(cgroups)
        }
    }
}

/// Where the runtime's own groups lie: beside those of pods that name no parent, unless those are systemd's.
fn own_parent(config: &Config) -> Result<CgroupPath, PathError> {
    let parent = config.cgroup.default_parent.as_str();
    CgroupPath::from_cri(if unit::is_slice(parent) { CgroupPath::DEFAULT_PARENT } else { parent })
}

/// A group beside the pods', so that stopping the daemon's service does not end the supervisor.
///
/// The group, and its parent.
fn supervisor_cgroup(cgroups: &Cgroups, config: &Config) -> Option<[Cgroup; 2]> {
    let create = || -> anyhow::Result<[Cgroup; 2]> {
        let parent = own_parent(config)?;
        Ok([cgroups.create(&parent.join("supervisor")?)?, cgroups.open(&parent)])
    };
    create()
        .inspect_err(|error| {
            tracing::warn!("the supervisor stays in the daemon's cgroup, so stopping the service may end its pods: {error:#}")
        })
        .ok()
}

/// A group for compile processes, beside the pods': last in line for processors, with memory for as many as run at once.
fn compile_cgroup(cgroups: &Cgroups, config: &Config) -> Option<Cgroup> {
    /// What a compile process holds beside the memory that it bounds itself: its own file, its stacks, its two files' pages.
    const BESIDE: u64 = 256 << 20;
    let create = || -> anyhow::Result<Cgroup> {
        let group = cgroups.create(&own_parent(config)?.join("compile")?)?;
        let memory =
            config.compile.memory_bytes.saturating_add(BESIDE).saturating_mul(config.images.max_parallel_compiles.into());
        let limits =
            cgroup::Limits { memory_bytes: i64::try_from(memory).ok(), cpu_shares: Some(2), ..cgroup::Limits::default() };
        group.apply(&limits)?;
        Ok(group)
    };
    create().inspect_err(|error| tracing::warn!("compile processes stay in the daemon's cgroup: {error:#}")).ok()
}

/// The supervisor has ended: its group goes too, and the pods' parent unless a stopped container still has its group in there.
async fn remove_idle(groups: Vec<Cgroup>) {
    let removed = tokio::task::spawn_blocking(move || groups.iter().try_for_each(Cgroup::remove)).await;
    if let Ok(Err(error)) = removed {
        tracing::debug!(%error, "a cgroup stays");
    }
}

fn images_config(config: &Config) -> images::Config {
    let mut images = images::Config::new(config.root.join("images"));
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    images.insecure_registries.clone_from(&config.images.insecure_registries);
    images.max_parallel_downloads = count(config.images.max_parallel_downloads);
    images.max_parallel_compiles = count(config.images.max_parallel_compiles);
    images.limits.manifest_bytes = config.images.max_manifest_bytes;
    images.limits.config_bytes = config.images.max_manifest_bytes;
    images.limits.layer_bytes = config.images.max_layer_bytes;
    images.limits.unpacked_bytes = config.images.max_unpacked_bytes;
    images.limits.entries = config.images.max_entries;
    images.limits.ratio = config.images.max_ratio;
    images.limits.layers = count(config.images.max_layers);
    images.limits.path_bytes = count(config.images.max_path_bytes);
    images.limits.modules = count(config.images.max_modules);
    images.unfinished_bytes = config.images.max_unfinished_bytes;
    images.certs_dirs.clone_from(&config.images.certs_dirs);
    images.read_timeout = Duration::from_secs(config.images.read_timeout_seconds);
    images.pinned.clone_from(&config.images.pinned);
    images.policy = config.trust.policy();
    images.compile = match config.compile.when {
        CompileWhen::Pull => images::CompileMode::AtPull,
        CompileWhen::Start => images::CompileMode::AtFirstStart,
    };
    images.max_compiled = count(config.compile.max_at_pull);
    images
}

fn network_config(config: &Config) -> NetworkConfig {
    NetworkConfig {
        conf_dir: config.network.conf_dir.clone(),
        bin_dirs: config.network.bin_dirs.clone(),
        cache_dir: config.cni_cache_dir(),
        netns_dir: config.netns_dir(),
        plugin_timeout: Duration::from_secs(config.network.plugin_timeout_seconds),
    }
}
