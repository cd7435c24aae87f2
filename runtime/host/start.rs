//! Finding the supervisor, or starting one, and keeping one there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::sync::mpsc;
use wasm_host::protocol::{Exited, PROTOCOL, Shutdown, request};

use super::connection::Connection;
use super::{Host, HostError, lock, system};
use crate::metrics::metrics;

/// How long a start may take: building an engine and a mount namespace is milliseconds.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// First and longest pause between attempts to replace a supervisor that has died.
const RESTART_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

impl Host {
    /// Connects to every supervisor of the state directory and makes sure that one is of this build.
    pub(super) async fn connect(&self) -> Result<(), HostError> {
        let build = wasm_host::protocol::build();
        let mut current = None;
        for path in self.sockets()? {
            let Some(connection) = Connection::open(&path).await? else {
                // Its supervisor is gone. A new one would replace the socket; a stale name must not be taken for a living one.
                let _ = std::fs::remove_file(&path);
                continue;
            };
            let welcome = connection.welcome();
            if current.is_none() && welcome.protocol == PROTOCOL && welcome.build == build {
                current = Some(connection);
                continue;
            }
            tracing::info!(
                pid = welcome.pid,
                guests = welcome.guests,
                build = welcome.build,
                "a supervisor of another build serves its guests to their end"
            );
            self.follow(connection, false);
        }
        let connection = match current {
            Some(connection) => connection,
            None => self.start().await?,
        };
        tracing::info!(pid = connection.welcome().pid, guests = connection.welcome().guests, "connected to the supervisor");
        self.0.current.send_replace(Some(connection.clone()));
        metrics().supervisor_up.set(1);
        self.follow(connection, true);
        Ok(())
    }

    fn sockets(&self) -> Result<Vec<PathBuf>, HostError> {
        let state = &self.0.config.state;
        let failed = || format!("listing {}", state.display());
        let mut sockets = Vec::new();
        for entry in std::fs::read_dir(state).map_err(system(failed()))? {
            let path = entry.map_err(system(failed()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("host-") && name.ends_with(".sock") {
                sockets.push(path);
            }
        }
        sockets.sort();
        Ok(sockets)
    }

    async fn start(&self) -> Result<Connection, HostError> {
        let config = &self.0.config;
        let taken = self.sockets()?;
        let socket = (0u32..)
            .map(|number| config.state.join(format!("host-{number}.sock")))
            .find(|path| !taken.contains(path))
            .ok_or_else(|| HostError::Start("no name is left for its socket".to_owned()))?;
        let log = open_log(&config.state.join("host.log"))?;
        let mut command = tokio::process::Command::new(&config.program);
        command
            .arg("host")
            .args([Path::new("--socket"), &socket, Path::new("--guests"), &config.state.join("guests")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Neither secrets of the service nor RUST_LOG concern it.
            .env_clear()
            .kill_on_drop(true);
        let status = tokio::time::timeout(START_DEADLINE, command.status())
            .await
            .map_err(|_| HostError::TimedOut { what: "its start", seconds: START_DEADLINE.as_secs() })?
            .map_err(system(format!("running {}", config.program.display())))?;
        if !status.success() {
            let text = std::fs::read_to_string(config.state.join("host.log")).unwrap_or_default();
            return Err(HostError::Start(text.lines().last().unwrap_or("it said nothing").to_owned()));
        }
        let connection = Connection::open(&socket).await?.ok_or(HostError::NotRunning)?;
        if let Some(cgroup) = &config.cgroup
            && let Err(error) = cgroup.add(connection.welcome().pid)
        {
            tracing::warn!("the supervisor stays in the daemon's cgroup, so stopping the service may end its pods: {error}");
        }
        Ok(connection)
    }

    /// Reads a supervisor's events until it has gone; then, if it was the current one, starts another.
    fn follow(&self, connection: Connection, current: bool) {
        let host = self.clone();
        self.0.tasks.spawn(async move {
            let stop = host.0.stop.clone();
            if !current {
                // Takes effect now if it is idle, else when its last guest's end is told below. Its reply is read below, too.
                let connection = connection.clone();
                host.0.tasks.spawn(async move { retire(&connection).await });
            }
            let (sender, mut events) = mpsc::channel(1);
            let reading = connection.clone();
            let read = async move { reading.read(&sender).await };
            // Ends when the supervisor has gone and all that it said has been handled.
            let handle = async {
                while let Some(Exited { guest, record }) = events.recv().await {
                    if let Some(record) = record {
                        host.tell(guest, record).await;
                    }
                    if !current {
                        let connection = connection.clone();
                        host.0.tasks.spawn(async move { retire(&connection).await });
                    }
                }
            };
            tokio::select! {
                // First: a supervisor that was told to end is not to be missed.
                biased;
                () = stop.cancelled() => return,
                ((), ()) = async { tokio::join!(read, handle) } => {}
            }
            if current {
                // First: a process that is ending closes its socket before its children get another parent, and a guest that still
                // names it as its parent is an orphan all the same.
                host.0.current.send_replace(None);
                metrics().supervisor_up.set(0);
            }
            host.watch_orphans();
            if !current {
                return;
            }
            metrics().supervisor_restarts.inc();
            tracing::error!(
                pid = connection.welcome().pid,
                "the supervisor has gone; its guests run on, a new one is being started"
            );
            let mut pause = RESTART_PAUSE.0;
            while let Err(error) = Box::pin(host.connect()).await {
                tracing::error!(%error, "starting the supervisor again");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(RESTART_PAUSE.1);
            }
        });
    }

    /// Hands out a guest's end, once.
    pub(super) async fn tell(&self, guest: String, record: wasm_host::protocol::ExitRecord) {
        if !lock(&self.0.told).insert(guest.clone()) {
            return;
        }
        // The receiver lives as long as the daemon; without it nobody wants to know.
        let _ = self.0.exits.send((guest, record)).await;
    }
}

async fn retire(connection: &Connection) {
    let request = request::Body::Shutdown(Shutdown {});
    // Refused while it has guests.
    let _ = connection.call(request, Vec::new(), Duration::from_secs(5), "a shutdown").await;
}

/// The supervisor's stderr: what it says when it cannot go on. Emptied when it has grown over a few restarts.
fn open_log(path: &Path) -> Result<std::fs::File, HostError> {
    const MAX_BYTES: u64 = 64 * 1024;
    let failed = || format!("opening {}", path.display());
    let file = std::fs::File::options().create(true).append(true).open(path).map_err(system(failed()))?;
    if file.metadata().map_err(system(failed()))?.len() > MAX_BYTES {
        file.set_len(0).map_err(system(failed()))?;
    }
    Ok(file)
}
