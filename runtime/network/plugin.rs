//! One call of one plugin: a process with the configuration on its stdin, the
//! parameters in its environment and the answer on its stdout.
//!
//! Plugins are other people's programs, some of them shell scripts. Each runs in
//! its own process group, so that a plugin that hangs is killed with everything
//! it waits for; what it writes is bounded; its end has a deadline.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command as Process};
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use super::error::{PluginError, PluginFailure};
use crate::metrics::{Cni, CniCall, Timed, metrics};

/// A result of the largest known plugins has some KiB.
const MAX_STDOUT: usize = 1 << 20;
/// Kept of stderr; the rest is read and thrown away.
const MAX_STDERR: usize = 8 << 10;
/// Of foreign output in our own errors.
const MAX_EXCERPT: usize = 512;
/// How long the output is waited for after the plugin's end. Only a process that
/// it has left behind can hold the pipe open.
const AFTER_END: Duration = Duration::from_secs(1);
/// An executable that is being written cannot be started; installers take moments.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// For daemons that were started without one. `portmap` looks for `iptables`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command of the specification, section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Is it attached as it should be?
    Check,
    /// Detach it.
    Del,
    /// Free what no container uses.
    Gc,
    /// Can containers be attached?
    Status,
    /// Which versions does the plugin speak?
    Version,
}

impl Command {
    /// As the specification writes it.
    pub fn name(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Check => "CHECK",
            Command::Del => "DEL",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Finds plugins and runs them.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// Where plugins are, in the order of looking.
    pub bin_dirs: Vec<PathBuf>,
    /// For each call.
    pub timeout: Duration,
}

impl Launcher {
    /// The plugin's executable. It looks at the disk: a `stat` or two, as the
    /// start of a process does anyway.
    pub fn find(&self, kind: &str) -> Result<PathBuf, PluginFailure> {
        if kind.is_empty() || kind == "." || kind == ".." || kind.contains(['/', '\0']) {
            return Err(PluginFailure::BadName);
        }
        self.bin_dirs
            .iter()
            .map(|dir| dir.join(kind))
            .find(|path| is_executable(path))
            .ok_or_else(|| PluginFailure::NotFound { dirs: self.bin_dirs.clone() })
    }

    /// Runs a plugin to its end and hands back what it wrote to stdout.
    ///
    /// `parameters` are the `CNI_*` variables beside the command and the path.
    pub async fn run(
        &self,
        kind: &str,
        command: Command,
        parameters: &BTreeMap<&'static str, String>,
        config: &[u8],
    ) -> Result<Vec<u8>, PluginError> {
        let timed = Timed::new("error", move |result, taken: Duration| {
            metrics().cni_calls.get_or_create(&CniCall { command: command.name(), result }).inc();
            metrics().cni_duration.get_or_create(&Cni { command: command.name() }).observe(taken.as_secs_f64());
        });
        let call = async {
            let path = self.find(kind)?;
            match timeout(self.timeout, self.call(&path, command, parameters, config)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(PluginFailure::TimedOut { after: self.timeout }),
            }
        };
        let span = tracing::debug_span!("CNI plugin", plugin = kind, command = command.name());
        let output = call.instrument(span).await.map_err(|failure| PluginError { plugin: kind.to_owned(), command, failure })?;
        timed.end("ok");
        Ok(output)
    }

    async fn call(
        &self,
        path: &Path,
        command: Command,
        parameters: &BTreeMap<&'static str, String>,
        config: &[u8],
    ) -> Result<Vec<u8>, PluginFailure> {
        let mut running = self.start(path, command, parameters).await?;
        let child = &mut running.child;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut output, mut complaint) = (Vec::new(), Vec::new());
        let status = {
            let talk = async {
                tokio::try_join!(
                    feed(stdin, config),
                    collect(stdout, &mut output, MAX_STDOUT, true),
                    collect(stderr, &mut complaint, MAX_STDERR, false),
                )
            };
            let mut talk = pin!(talk);
            tokio::select! {
                talked = &mut talk => {
                    talked?;
                    child.wait().await.map_err(PluginFailure::Talk)?
                }
                ended = child.wait() => {
                    let ended = ended.map_err(PluginFailure::Talk)?;
                    if let Ok(talked) = timeout(AFTER_END, &mut talk).await {
                        talked?;
                    }
                    ended
                }
            }
        };
        running.ended = true;
        if !complaint.is_empty() {
            tracing::debug!(plugin = %path.display(), %command, stderr = %excerpt(&complaint), "plugin wrote to stderr");
        }
        if status.success() { Ok(output) } else { Err(failure(status, &output, &complaint)) }
    }

    async fn start(
        &self,
        path: &Path,
        command: Command,
        parameters: &BTreeMap<&'static str, String>,
    ) -> Result<Running, PluginFailure> {
        let mut process = Process::new(path);
        for (key, _) in std::env::vars_os() {
            // Not for plugins: what systemd tells the daemon, and what a CNI
            // plugin that had started us was told.
            let key_text = key.to_string_lossy();
            if ["CNI_", "LISTEN_", "WATCHDOG_", "NOTIFY_"].iter().any(|prefix| key_text.starts_with(prefix)) {
                process.env_remove(&key);
            }
        }
        if std::env::var_os("PATH").is_none() {
            process.env("PATH", DEFAULT_PATH);
        }
        process.env("CNI_COMMAND", command.to_string()).env("CNI_PATH", self.path_variable());
        process.envs(parameters);
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        process.process_group(0).kill_on_drop(true);
        loop {
            match process.spawn() {
                Ok(child) => return Ok(Running { child, ended: false }),
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => sleep(BUSY_PAUSE).await,
                Err(source) => return Err(PluginFailure::Start { path: path.to_owned(), source }),
            }
        }
    }

    fn path_variable(&self) -> OsString {
        let dirs: Vec<&OsStr> = self.bin_dirs.iter().map(|dir| dir.as_os_str()).collect();
        dirs.join(OsStr::new(":"))
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A plugin's process. Dropped before its end, it is killed with its group:
/// that is what the deadline does, and a caller who has lost interest.
struct Running {
    child: Child,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it is reaped there is no id, and the group's number may be
        // another's.
        let id = if self.ended { None } else { self.child.id() };
        let group = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // It fails only if all of them are gone. tokio reaps the child.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A plugin that does not read its configuration, or not all, has its reasons:
/// only its answer counts.
async fn feed(stdin: Option<impl AsyncWriteExt + Unpin>, config: &[u8]) -> Result<(), PluginFailure> {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(config).await;
    }
    Ok(())
}

async fn collect(
    stream: Option<impl AsyncRead + Unpin>,
    collected: &mut Vec<u8>,
    limit: usize,
    must_fit: bool,
) -> Result<(), PluginFailure> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut piece = [0_u8; 4096];
    loop {
        let length = stream.read(&mut piece).await.map_err(PluginFailure::Talk)?;
        if length == 0 {
            return Ok(());
        }
        let room = limit.saturating_sub(collected.len());
        if length > room && must_fit {
            return Err(PluginFailure::TooLong { limit });
        }
        collected.extend(piece.iter().take(length.min(room)));
    }
}

/// The error that a plugin tells (specification, section 5).
#[derive(Deserialize)]
struct ErrorShape {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

fn failure(status: ExitStatus, output: &[u8], complaint: &[u8]) -> PluginFailure {
    match serde_json::from_slice::<ErrorShape>(output) {
        Ok(told) => PluginFailure::Reported {
            code: told.code,
            message: excerpt(told.msg.as_bytes()),
            details: excerpt(told.details.as_bytes()),
        },
        Err(_) => {
            let text = if output.trim_ascii().is_empty() { complaint } else { output };
            PluginFailure::Died { status, output: excerpt(text) }
        }
    }
}

/// The beginning of foreign output, fit for a message.
pub fn excerpt(output: &[u8]) -> String {
    let beginning = output.get(..MAX_EXCERPT).unwrap_or(output);
    String::from_utf8_lossy(beginning).trim().to_owned()
}
