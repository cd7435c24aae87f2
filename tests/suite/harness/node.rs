//! A node of one test: a private daemon with directories, cgroups and, if asked for, a network of its own.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use cri_wasm::proto::runtime::v1 as cri;
use rustix::process::Signal;

use super::guests::Guest;
use super::leak::{self, Holdings};
use super::place::Place;
use super::process::Process;
use super::registry::{Registry, Setup};
use super::wait::{PATIENCE, eventually};
use super::{client::Client, missing, netns};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cri-wasm");

/// How a node is to be started.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// TOML that goes over the test's own configuration.
    pub config: &'a str,
    /// The daemon runs in a network namespace of the test's own, where the registry is reached as everywhere.
    pub own_network: bool,
    /// The socket of a service manager.
    pub notify: Option<&'a str>,
    /// Address of a system bus.
    pub bus: Option<&'a str>,
}

/// A running node. Dropping it ends everything and leaves nothing, also when the test has failed.
#[derive(Debug)]
pub struct Node {
    // Fields are dropped in this order: whatever lies in the place goes before it.
    daemon: Option<Child>,
    pub client: Client,
    _registry: Option<Registry>,
    /// File of the network namespace that the daemon runs in, if it has its own.
    pub netns: Option<PathBuf>,
    fresh: Holdings,
    fresh_images: Vec<String>,
    notify: Option<String>,
    bus: Option<String>,
    /// A file that the daemon finds in the place of the kernel's boot id.
    pub boot_id: Option<PathBuf>,
    pub place: Place,
}

impl Node {
    /// Starts a node, or returns `None` after the test was skipped.
    pub fn start() -> Option<Node> {
        Node::start_with(&Options::default())
    }

    /// Starts a node and pulls guests, or returns `None` after the test was skipped.
    pub fn with(guests: &[Guest]) -> Option<Node> {
        Node::with_options(&Options::default(), guests)
    }

    /// As [`Node::with`].
    pub fn with_options(options: &Options<'_>, guests: &[Guest]) -> Option<Node> {
        for guest in guests {
            guest.push()?;
        }
        let mut node = Node::start_with(options)?;
        for guest in guests {
            node.pull(&guest.reference()).expect("the guest is pulled");
        }
        node.take_as_fresh();
        Some(node)
    }

    /// As [`Node::start`].
    pub fn start_with(options: &Options<'_>) -> Option<Node> {
        if !missing::is_root() {
            return None;
        }
        let mut registry = None;
        let mut netns = None;
        if options.own_network {
            missing::program("ip", "iproute2")?;
            missing::program("nsenter", "util-linux")?;
            let shared = Registry::shared()?;
            // Its namespace carries the place's name and goes with it; made below, once there is a place.
            registry = Some(shared);
        }
        let place = Place::new();
        let registry = registry.map(|shared| {
            let namespace = netns::make(&place.name);
            netns = Some(namespace.clone());
            let setup =
                Setup { storage: Some(&shared.storage), port: shared.address.port(), netns: Some(&namespace), htpasswd: None };
            Registry::start(&setup)
        });
        std::fs::write(place.files.join("config.toml"), config_text(&place, options.config)).expect("a configuration file");
        place.directory("cni");
        let client = Client::new(&place.state.join("cri.sock"));
        let mut node = Node {
            daemon: None,
            client,
            _registry: registry,
            netns,
            fresh: Holdings::default(),
            fresh_images: Vec::new(),
            notify: None,
            bus: options.bus.map(str::to_owned),
            boot_id: None,
            place,
        };
        node.notify = options.notify.map(str::to_owned);
        node.start_daemon();
        node.take_as_fresh();
        Some(node)
    }

    /// The file that the daemon reads its configuration from.
    pub fn config_file(&self) -> PathBuf {
        self.place.files.join("config.toml")
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.place.files.join("daemon.log")).expect("a log file");
        let mut command = self.program();
        command.args(["serve", "--config"]).arg(self.config_file());
        command.env_remove("NOTIFY_SOCKET").env_remove("RUST_LOG").env("RUST_BACKTRACE", "0");
        if let Some(socket) = &self.notify {
            command.env("NOTIFY_SOCKET", socket);
        }
        if let Some(bus) = &self.bus {
            command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        }
        // Ctrl-C is for the test, which then ends what it has started.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let mut child = command.spawn().expect("the program starts");
        eventually("the daemon answers", || {
            if let Some(status) = child.try_wait().expect("the daemon is ours") {
                panic!("the daemon does not start ({status}); it said:\n{}", self.daemon_log());
            }
            self.client.version(cri::VersionRequest::default()).ok()
        });
        self.daemon = Some(child);
    }

    /// The program, in the surroundings that the test wants for it.
    fn program(&self) -> Command {
        let (launcher, arguments) = match (&self.netns, &self.boot_id) {
            (Some(namespace), _) => ("nsenter", vec![format!("--net={}", namespace.display())]),
            (None, Some(boot_id)) => {
                let script = r#"mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@""#;
                let words = ["--mount", "sh", "-c", script, "sh", &boot_id.display().to_string()];
                ("unshare", words.map(str::to_owned).to_vec())
            }
            (None, None) => return Command::new(PROGRAM),
        };
        let mut command = Command::new(launcher);
        command.args(arguments).arg(PROGRAM);
        command
    }

    /// Ends the daemon without a chance to do anything.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().expect("the daemon is ours");
        daemon.wait().expect("the daemon is ours");
    }

    /// Asks the daemon to end, as systemd does, and waits for that.
    pub fn terminate_daemon(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        Process::look(self.pid_of_child(&daemon)).expect("the daemon runs").signal(Signal::TERM);
        eventually("the daemon ends after SIGTERM", || daemon.try_wait().expect("the daemon is ours"))
    }

    /// Kills the daemon and starts it again.
    pub fn restart_daemon(&mut self) {
        self.kill_daemon();
        self.start_daemon();
    }

    /// Process id of the daemon.
    pub fn daemon_pid(&self) -> i32 {
        self.pid_of_child(self.daemon.as_ref().expect("the daemon runs"))
    }

    fn pid_of_child(&self, child: &Child) -> i32 {
        i32::try_from(child.id()).expect("a process id")
    }

    /// What the daemon has said, over all its starts.
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.place.files.join("daemon.log")).unwrap_or_default()
    }

    /// Removes every pod and what was pulled since, then fails if anything is there that a fresh node does not have.
    pub fn finish(self) {
        for pod in self.pods(None) {
            self.remove_pod(&pod.id).expect("the pod is removed");
        }
        for image in self.images() {
            if !self.fresh_images.contains(&image.id) {
                self.remove_image(&image.id).expect("the image is removed");
            }
        }
        leak::assert_none(&self.place, &self.fresh);
    }

    fn take_as_fresh(&mut self) {
        self.fresh = self.holdings();
        self.fresh_images = self.images().into_iter().map(|image| image.id).collect();
    }

    /// What the node holds at this moment.
    pub fn holdings(&self) -> Holdings {
        Holdings::of(&self.place)
    }

    /// Fails if the node holds more than it did.
    pub fn assert_nothing_leaked(&self, before: &Holdings) {
        leak::assert_none(&self.place, before);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            let supervisor = std::fs::read_to_string(self.place.state.join("host.log")).unwrap_or_default();
            eprintln!("the daemon said:\n{}\nthe supervisor said:\n{supervisor}", self.daemon_log());
        }
    }
}

fn config_text(place: &Place, more: &str) -> String {
    let text = |path: PathBuf| toml::Value::String(path.display().to_string());
    let table = |entries: Vec<(&str, toml::Value)>| {
        toml::Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let mut config = table(vec![
        ("root", text(place.root.clone())),
        ("state", text(place.state.clone())),
        ("socket", text(place.state.join("cri.sock"))),
        (
            "network",
            table(vec![
                ("conf_dir", text(place.files.join("cni"))),
                // A test's own plugins, then Debian's.
                ("bin_dirs", vec![text(place.files.join("plugins")), text(PathBuf::from("/usr/lib/cni"))].into()),
            ]),
        ),
        ("cgroup", table(vec![("default_parent", toml::Value::String(place.cgroup()))])),
    ]);
    merge(&mut config, toml::from_str(more).expect("valid TOML"));
    toml::to_string(&config).expect("a configuration")
}

fn merge(under: &mut toml::Value, over: toml::Value) {
    match (under, over) {
        (toml::Value::Table(under), toml::Value::Table(over)) => {
            for (key, value) in over {
                match under.get_mut(&key) {
                    Some(old) => merge(old, value),
                    None => {
                        under.insert(key, value);
                    }
                }
            }
        }
        (under, over) => *under = over,
    }
}

/// The time that something takes at most where it is told to be at once; generous, for a loaded machine.
pub const AT_ONCE: Duration = Duration::from_secs(5);

const _: () = assert!(AT_ONCE.as_secs() < PATIENCE.as_secs());
