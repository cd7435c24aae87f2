//! A daemon for one command: its own directories and socket, gone when the command ends.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use super::client::Client;

/// How long the daemon may take to answer. It is milliseconds; a cold disk may need more.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(20);

/// A running private daemon. `stop` ends it and removes what it had.
#[derive(Debug)]
pub(super) struct PrivateDaemon {
    process: Child,
    /// State and root directory.
    directories: [PathBuf; 2],
    socket: PathBuf,
}

impl PrivateDaemon {
    /// Starts the daemon and waits until it answers.
    pub(super) async fn start() -> anyhow::Result<(Self, Client)> {
        if !rustix::process::geteuid().is_root() {
            bail!(
                "cri-wasm must run as root: it makes namespaces, mounts and cgroups (try: sudo {})",
                std::env::args().next().unwrap_or_default()
            );
        }
        let name = format!("cri-wasm-{}", std::process::id());
        // State belongs on tmpfs; images and writable layers on a file system that overlayfs can write to, which tmpfs need not be.
        let memory = ["/run", "/dev/shm"].map(Path::new).into_iter().find(|path| is_tmpfs(path)).unwrap_or(Path::new("/run"));
        let directories = [memory.join(&name), Path::new("/var/tmp").join(&name)];
        let [state, root] = &directories;
        for directory in &directories {
            std::fs::create_dir(directory).with_context(|| format!("making {}", directory.display()))?;
            rustix::fs::chmod(directory, rustix::fs::Mode::from_raw_mode(0o711))?;
        }
        let socket = state.join("cri.sock");
        let log = std::fs::File::create(state.join("daemon.log"))?;
        let cni = state.join("cni");
        let config = state.join("config.toml");
        std::fs::write(&config, config_text(&name, &cni))?;
        let process = Command::new(std::env::current_exe()?)
            .arg("serve")
            .args([
                Path::new("--config"),
                &config,
                Path::new("--state"),
                state,
                Path::new("--root"),
                root,
                Path::new("--socket"),
                &socket,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is the command's own: it removes its pod first, then the daemon.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("starting a private daemon")?;
        let mut daemon = Self { process, directories: directories.clone(), socket };
        match daemon.wait().await {
            Ok(client) => Ok((daemon, client)),
            Err(error) => {
                let said = std::fs::read_to_string(state.join("daemon.log")).unwrap_or_default();
                daemon.stop().await?;
                Err(error.context(format!("the private daemon does not start; it said:\n{}", said.trim_end())))
            }
        }
    }

    async fn wait(&mut self) -> anyhow::Result<Client> {
        let begin = Instant::now();
        loop {
            match Client::connect(&self.socket).await {
                Ok(client) => return Ok(client),
                Err(error) if begin.elapsed() > START => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Process id of the daemon.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Where its state lies.
    pub(super) fn state(&self) -> &Path {
        let [state, _] = &self.directories;
        state
    }

    /// Removes what the command left when it failed, ends the daemon, its idle supervisor with it, and deletes both directories.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Ok(mut client) = Client::connect(&self.socket).await
            && let Err(error) = client.remove_all_pods().await
        {
            eprintln!("cri-wasm: a pod could not be removed: {error:#}");
        }
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(STOP, self.process.wait()).await.is_err() {
            self.process.kill().await?;
        }
        for directory in &self.directories {
            std::fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))?;
        }
        Ok(())
    }
}

fn is_tmpfs(path: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == TMPFS_MAGIC)
}

/// Keeps the private daemon off the node's own cgroup parent and CNI state.
fn config_text(name: &str, cni: &Path) -> String {
    let cni = cni.display();
    format!(
        "[network]\nconf_dir = \"{cni}/net.d\"\ncache_dir = \"{cni}/cache\"\nnetns_dir = \"{cni}/netns\"\n\n[cgroup]\ndefault_parent = \"/{name}\"\n"
    )
}
