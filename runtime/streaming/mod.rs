//! Exec, attach and port-forward: what the sessions of the streaming server do in this runtime.
//!
//! The crate `streaming` speaks with the clients; here their bytes meet a command, a container's own process, or a pod's
//! network. The server listens on loopback unless the configuration says otherwise, since whoever reaches it with a token
//! is inside a pod; the kubelet, which asks for the tokens, runs on the same node.

mod attach;
mod command;
mod forward;
mod pump;
mod tap;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::streaming::{CommandStreams, Kind, Outcome, Server, Sessions, UrlError, Wanted};
use anyhow::Context;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::metrics::{self, Counted, metrics};
use crate::state::Runtime;
use crate::store::chain;

pub use tap::Taps;

/// What an exec or attach session is about.
#[derive(Debug)]
pub enum Command {
    /// A new process.
    Exec {
        /// Where.
        container: String,
        /// argv.
        command: Vec<String>,
        /// It gets a terminal.
        tty: bool,
    },
    /// The container's own process.
    Attach {
        /// Which.
        container: String,
    },
}

/// What a port-forward session is about: the sandbox.
#[derive(Debug)]
pub struct Forward(pub String);

/// Why there is no URL.
#[derive(Debug, Error)]
pub enum StreamingError {
    /// The server does not listen yet.
    #[error("the streaming server is not there yet")]
    Off,
    /// Too many that nobody has used.
    #[error(transparent)]
    Url(#[from] UrlError),
}

/// The streaming server of a runtime.
pub struct Streaming {
    server: Arc<Server<Guests>>,
    base: String,
}

impl Streaming {
    /// The URL of an exec or attach.
    pub fn command_url(&self, kind: Kind, command: Command, wanted: Wanted) -> Result<String, StreamingError> {
        Ok(format!("{}{}", self.base, self.server.command_url(kind, command, wanted)?))
    }

    /// The URL of a port-forward.
    pub fn forward_url(&self, forward: Forward, ports: Vec<u16>) -> Result<String, StreamingError> {
        Ok(format!("{}{}", self.base, self.server.forward_url(forward, ports)?))
    }
}

/// Starts the server of `runtime` and returns once it listens; it ends with `stop`, and `tasks` waits for it.
pub async fn serve(runtime: &Arc<Runtime>, stop: CancellationToken, tasks: &tokio_util::task::TaskTracker) -> anyhow::Result<()> {
    let settings = &runtime.config.streaming;
    let address: SocketAddr = settings.address.parse().context("[streaming] address")?;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listening on {address} for streams ([streaming] address)"))?;
    let tls = settings.tls()?;
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        // It listens everywhere; the kubelet is here.
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    let base = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    let server = Server::new(limits(settings), Guests(Arc::downgrade(runtime)));
    tracing::info!(address = %address, tls = tls.is_some(), "serving exec, attach and port-forward");
    tasks.spawn(Arc::clone(&server).serve(listener, tls, stop));
    // A second server of one runtime would have no use.
    let _ = runtime.streaming.set(Streaming { server, base });
    Ok(())
}

fn limits(settings: &config::Streaming) -> ::streaming::Config {
    let defaults = ::streaming::Config::default();
    ::streaming::Config {
        tokens: ::streaming::TokenLimits {
            lifetime: Duration::from_secs(settings.token_seconds),
            waiting: usize::try_from(settings.max_tokens).unwrap_or(usize::MAX),
        },
        idle: Duration::from_secs(settings.idle_seconds),
        connections: usize::try_from(settings.max_connections).unwrap_or(usize::MAX),
        ..defaults
    }
}

/// The sessions' way to the runtime, which owns the server.
pub struct Guests(Weak<Runtime>);

impl Guests {
    fn runtime(&self) -> Option<Arc<Runtime>> {
        self.0.upgrade().filter(|runtime| !runtime.stop.is_cancelled())
    }
}

impl Sessions for Guests {
    type Command = Command;
    type Forward = Forward;

    async fn command(&self, command: Command, streams: CommandStreams) -> Outcome {
        let Some(runtime) = self.runtime() else { return failure("the daemon is shutting down") };
        let kind = metrics::Kind { kind: if matches!(command, Command::Exec { .. }) { "exec" } else { "attach" } };
        metrics().sessions.get_or_create(&kind).inc();
        let _open = Counted::new(&metrics().sessions_open.get_or_create(&kind));
        let _running = matches!(command, Command::Exec { .. }).then(|| {
            metrics().execs.get_or_create(&kind).inc();
            Counted::new(&metrics().execs_running.get_or_create(&kind))
        });
        let done = match command {
            Command::Exec { container, command, tty } => command::run(&runtime, &container, &command, tty, streams).await,
            Command::Attach { container } => attach::run(&runtime, &container, streams).await,
        };
        done.unwrap_or_else(|error| {
            let text = chain(&error);
            tracing::warn!(error = %text, "a session failed");
            failure(text)
        })
    }

    async fn connect(&self, forward: &Forward, port: u16) -> std::io::Result<TcpStream> {
        let runtime = self.runtime().ok_or_else(|| std::io::Error::other("the daemon is shutting down"))?;
        metrics().sessions.get_or_create(&metrics::Kind { kind: "port_forward" }).inc();
        forward::connect(&runtime, &forward.0, port).await
    }
}

fn failure(message: impl Into<String>) -> Outcome {
    Outcome::Failure { message: message.into() }
}
