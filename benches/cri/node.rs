//! A runtime under measurement: its daemon, its socket, and which processes are its.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cri_wasm::proto::runtime::v1 as cri;
use rustix::process::{Pid, Signal};

use crate::client::Client;
use crate::place::Place;
use crate::processes::{self, Process};

/// How long a daemon may take to answer.
const START: Duration = Duration::from_secs(30);

/// How a node is made.
pub struct Setup {
    /// Heads the column.
    pub title: String,
    /// Name of its directories and cgroup within the place.
    pub name: &'static str,
    /// Starts the daemon.
    pub command: Box<dyn Fn() -> Command + Send + Sync>,
    /// Where it listens.
    pub socket: PathBuf,
    /// What its idle pods run.
    pub image: String,
    /// Whether there is a process of the runtime for each pod (a shim), which is then part of the pod.
    pub has_shims: bool,
}

/// A running daemon. Dropping it kills it; its pods go with the place.
pub struct Node {
    /// Heads the column.
    pub title: String,
    /// What its idle pods run.
    pub image: String,
    /// Connected to its socket.
    pub client: Client,
    /// Where it listens.
    pub socket: PathBuf,
    /// The cgroup that is the parent of its pods.
    pub pods_cgroup: String,
    /// Logs of its pods.
    pub logs: PathBuf,
    /// Files that a kubelet mounts into each container: host path, container path.
    pub mounts: Vec<(PathBuf, &'static str)>,
    /// Pods made so far.
    pub serial: u32,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    child: Option<Child>,
    log: PathBuf,
    /// In the arguments of all its processes.
    state: PathBuf,
    place: String,
    has_shims: bool,
}

/// Its processes, by role.
#[derive(Debug)]
pub struct Roles {
    /// The daemon.
    pub daemon: Process,
    /// What else the runtime keeps: the supervisor, or a shim for each pod.
    pub helpers: Vec<Process>,
    /// What runs in the pods' cgroups.
    pub guests: Vec<Process>,
}

impl Node {
    /// Starts the daemon and waits until it answers.
    pub fn start(place: &Place, setup: Setup) -> anyhow::Result<Self> {
        let files = place.directory(&format!("{}-files", setup.name))?;
        let mounts = vec![(files.join("hosts"), "/etc/hosts"), (files.join("termination-log"), "/dev/termination-log")];
        for (path, _) in &mounts {
            std::fs::write(path, "127.0.0.1 localhost\n")?;
        }
        let mut node = Self {
            title: setup.title,
            image: setup.image,
            client: Client::new(&setup.socket)?,
            socket: setup.socket,
            pods_cgroup: format!("/{}/{}-pods", place.name, setup.name),
            logs: place.directory(&format!("{}-logs", setup.name))?,
            mounts,
            serial: 0,
            command: setup.command,
            child: None,
            log: files.join("daemon.log"),
            state: place.memory.join(setup.name),
            place: place.name.clone(),
            has_shims: setup.has_shims,
        };
        node.launch()?;
        Ok(node)
    }

    /// Starts the daemon and waits until it answers.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = (self.command)();
        // Ctrl-C is for the bench, which then ends what it has started.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        let child = self.child.insert(child);
        let begin = Instant::now();
        while let Err(error) = self.client.version(cri::VersionRequest::default()) {
            if let Some(status) = child.try_wait()? {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("the daemon ended with {status}; it said:\n{}", said.trim_end());
            }
            if begin.elapsed() > START {
                return Err(error.context("the daemon does not answer"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Ends the daemon without a chance to do anything.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks the daemon to end, and waits for that.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            rustix::process::kill_process(pid, Signal::TERM)?;
        }
        child.wait()?;
        Ok(())
    }

    /// Looks at `/proc`.
    pub fn roles(&self) -> anyhow::Result<Roles> {
        let daemon = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        let (mut found, mut helpers, mut guests) = (None, Vec::new(), Vec::new());
        for process in processes::of_place(&self.place) {
            let is_ours = process.arguments.iter().any(|word| Path::new(word).starts_with(&self.state));
            if Some(process.pid) == daemon {
                found = Some(process);
            } else if process.is_in_cgroup(&self.pods_cgroup) {
                guests.push(process);
            } else if is_ours {
                helpers.push(process);
            }
        }
        Ok(Roles { daemon: found.context("the daemon does not run")?, helpers, guests })
    }

    /// Bytes that each process of a pod takes, its shim among them.
    pub fn pods_pss(&self) -> anyhow::Result<Vec<u64>> {
        let roles = self.roles()?;
        let shims = roles.helpers.iter().filter(|_| self.has_shims);
        roles.guests.iter().chain(shims).map(Process::pss).collect()
    }

    /// Bytes of what is there once for all pods, as PSS.
    pub fn fixed_pss(&self) -> anyhow::Result<u64> {
        let roles = self.roles()?;
        let helpers = roles.helpers.iter().filter(|_| !self.has_shims);
        [&roles.daemon].into_iter().chain(helpers).map(Process::pss).sum()
    }

    /// Processor time of everything but the guests so far, in milliseconds.
    pub fn cpu_millis(&self) -> anyhow::Result<u64> {
        let roles = self.roles()?;
        [&roles.daemon].into_iter().chain(&roles.helpers).map(Process::cpu_millis).sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.kill();
        }
    }
}

/// The program under test, with directories of its own.
pub fn cri_wasm(place: &Place, image: String) -> anyhow::Result<Node> {
    ours(place, image, "ours", "")
}

/// The same, but it compiles nothing before somebody starts it.
pub fn cri_wasm_lazy(place: &Place) -> anyhow::Result<Node> {
    ours(place, String::new(), "lazy", "[compile]\nwhen = \"start\"\n")
}

fn ours(place: &Place, image: String, name: &'static str, more: &str) -> anyhow::Result<Node> {
    // `benches/run` names it; under a plain `cargo bench` cargo has built it.
    let program = std::env::var_os("CRI_WASM_BIN").filter(|value| !value.is_empty()).map(PathBuf::from);
    let program =
        program.or_else(|| option_env!("CARGO_BIN_EXE_cri-wasm").map(PathBuf::from)).context("CRI_WASM_BIN is not set")?;
    let (state, root) = (place.memory.join(name), place.directory(name)?);
    std::fs::create_dir(&state)?;
    let (config, socket) = (root.join("config.toml"), state.join("cri.sock"));
    let cni = crate::containerd::cni_configuration(place, name, "cw0", 213)?;
    std::fs::write(
        &config,
        format!(
            "[network]\nconf_dir = {cni:?}\n[cgroup]\ndefault_parent = \"/{}/{name}\"\n[log]\nlevel = \"warn\"\n{more}",
            place.name
        ),
    )?;
    let output = Command::new(&program).arg("--version").output().with_context(|| format!("running {}", program.display()))?;
    let title = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut arguments = vec!["serve".into(), "--config".into(), config];
    arguments.extend(["--root".into(), root, "--state".into(), state, "--socket".into(), socket.clone()]);
    let head = place.netns.clone();
    let command = move || {
        let mut command = Place::command(head.as_deref(), &program);
        command.args(&arguments).env_remove("NOTIFY_SOCKET").env_remove("RUST_LOG");
        command
    };
    Node::start(place, Setup { title, name, command: Box::new(command), socket, image, has_shims: false })
}
