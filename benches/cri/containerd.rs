//! The peer: containerd with runc, as Debian builds them, in directories of this run. `benches/run` unpacks them; none is installed.
//!
//! And what both runtimes share: the CNI bridge, from Debian's plugins.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::node::{Node, Setup};
use crate::place::{Place, ip};
use crate::registry::Registry;

/// Where CNI plugins are looked for: as the projects ship them, and as Debian does.
const PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The programs of the peer.
#[derive(Debug)]
pub struct Containerd {
    containerd: PathBuf,
    runc: PathBuf,
    title: String,
}

impl Containerd {
    /// Looks in `PATH`. An error says what is missing.
    pub fn find() -> Result<Self, String> {
        let [containerd, _, runc] = ["containerd", "containerd-shim-runc-v2", "runc"].map(find_program);
        let containerd = containerd?;
        find_program("containerd-shim-runc-v2")?;
        let runc = runc?;
        let version = |program: &Path, word: usize| {
            let output = Command::new(program).arg("--version").output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Some(text.split_whitespace().nth(word)?.split('~').next()?.to_owned())
        };
        let name = |program, word| version(program, word).unwrap_or_default();
        let title = format!("containerd {} + runc {}", name(&containerd, 2), name(&runc, 2));
        Ok(Self { containerd, runc, title })
    }

    /// Starts it with a native program for idle pods, and the same for the pause process that each pod has.
    pub fn start(self, place: &Place, registry: &Registry) -> anyhow::Result<Node> {
        let name = "peer";
        let (state, root) = (place.memory.join(name), place.directory(name)?);
        std::fs::create_dir(&state)?;
        let program = crate::images::native(&root).context("building a static native program to run in it")?;
        let image = registry.add_native("native", &program, &["/program"])?;
        let pause = registry.add_native("pause", &program, &["/program", "pause"])?;
        let socket = state.join("containerd.sock");
        let cni = cni_configuration(place, name, "cd0", 214)?;
        let plugins = plugin_directory().unwrap_or(Path::new("/usr/lib/cni"));
        // Some machines let not even root lower an oom_score_adj, which pause processes want.
        let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
        let text = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n\
             disabled_plugins = [\"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.btrfs\", \
             \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.devmapper\"]\n\
             [grpc]\naddress = {socket:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {opt:?}\n\
             [{cri}]\nsandbox_image = {pause:?}\nstream_server_port = \"0\"\nrestrict_oom_score_adj = true\nnetns_mounts_under_state_dir = true\n\
             [{cri}.cni]\nbin_dir = {plugins:?}\nconf_dir = {cni:?}\n\
             [{cri}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
             [{cri}.containerd.runtimes.runc.options]\nBinaryName = {runc:?}\nRoot = {runc_root:?}\n",
            opt = root.join("opt"),
            runc = self.runc,
            runc_root = state.join("runc"),
        );
        let config = root.join("config.toml");
        std::fs::write(&config, text)?;
        let head = place.netns.clone();
        let containerd = self.containerd;
        let command = move || {
            let mut command = Place::command(head.as_deref(), &containerd);
            // State as an argument too, so that its process is known by it.
            command.arg("--config").arg(&config).arg("--state").arg(&state);
            command
        };
        Node::start(place, Setup { title: self.title, name, command: Box::new(command), socket, image, has_shims: true })
    }
}

fn find_program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| format!("{name} is not in PATH"))
}

fn plugin_directory() -> Option<&'static Path> {
    PLUGINS.into_iter().map(Path::new).find(|directory| directory.join("bridge").is_file())
}

/// Why pods cannot get a network of their own here.
pub fn missing_cni(place: &Place) -> Option<String> {
    if place.netns.is_none() {
        return Some("no network namespace (iproute2)".to_owned());
    }
    plugin_directory().is_none().then(|| "no CNI plugins".to_owned())
}

fn network(place: &Place, name: &str, bridge: &str, subnet: u8) -> anyhow::Result<String> {
    let addresses = place.directory(&format!("{name}-addresses"))?;
    Ok(format!(
        "{{\"type\": \"bridge\", \"bridge\": \"{bridge}\", \"isGateway\": true, \"ipam\": {{\"type\": \"host-local\", \
         \"dataDir\": {addresses:?}, \"ranges\": [[{{\"subnet\": \"10.{subnet}.0.0/16\"}}]], \"routes\": [{{\"dst\": \"0.0.0.0/0\"}}]}}"
    ))
}

/// Writes the configuration of a bridge with host-local addresses, and returns its directory. Empty where there is no such network.
pub fn cni_configuration(place: &Place, name: &str, bridge: &str, subnet: u8) -> anyhow::Result<PathBuf> {
    let directory = place.directory(&format!("{name}-cni"))?;
    if missing_cni(place).is_none() {
        let plugin = network(place, name, bridge, subnet)?;
        let list = format!("{{\"cniVersion\": \"1.0.0\", \"name\": \"{name}\", \"plugins\": [{plugin}}}]}}");
        std::fs::write(directory.join("10-bench.conflist"), list)?;
    }
    Ok(directory)
}

/// How long the bridge plugin itself takes for an ADD, without any runtime.
pub fn plugin_add(place: &Place, number: usize) -> anyhow::Result<Duration> {
    let plugin = plugin_directory().context("no CNI plugins")?.join("bridge");
    let name = format!("{}-{number}", place.name);
    let config = network(place, "alone", "cp0", 215)? + ", \"cniVersion\": \"1.0.0\", \"name\": \"alone\"}";
    let file = place.disk.join("alone.conf");
    std::fs::write(&file, config)?;
    ip(&["netns", "add", &name])?;
    let call = |command: &str| {
        let mut plugin = Place::command(place.netns.as_deref(), &plugin);
        plugin.env("CNI_COMMAND", command).env("CNI_CONTAINERID", &name).env("CNI_IFNAME", "eth0");
        plugin
            .env("CNI_NETNS", Path::new("/run/netns").join(&name))
            .env("CNI_PATH", plugin_directory().unwrap_or(Path::new("/")));
        let begin = Instant::now();
        let output = plugin.stdin(std::fs::File::open(&file)?).output()?;
        if !output.status.success() {
            bail!("the bridge plugin's {command}: {}", String::from_utf8_lossy(&output.stdout).trim());
        }
        Ok(begin.elapsed())
    };
    let added = call("ADD").and_then(|took| call("DEL").map(|_| took));
    ip(&["netns", "del", &name])?;
    added
}
