//! The server: hands out paths, and serves whoever comes with one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http;
use crate::sessions::{Kind, Sessions, Wanted};
use crate::stream::Pool;
use crate::token::{Door, Token, Tokens, UrlError};

/// Connections beyond the limit that are told so at once; those beyond them are closed without a word.
const REFUSALS: usize = 64;

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
        self.tokens().insert(door, Waiting::Command { command, wanted }, Instant::now())
    }

    /// The path of one port-forward. `ports` are those of the CRI request; only clients of the older WebSocket protocol,
    /// which cannot name a port themselves, need them.
    pub fn forward_url(&self, forward: S::Forward, ports: Vec<u16>) -> Result<String, UrlError> {
        self.tokens().insert(Door::Forward, Waiting::Forward { forward, ports }, Instant::now())
    }

    pub(crate) fn take(&self, door: Door, token: Token) -> Option<Waiting<S>> {
        self.tokens().take(door, token, Instant::now())
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens<Waiting<S>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the listener until `stop` is cancelled; then every session is told and has
    /// four times [`Config::drain`](crate::Config::drain) to end. With `tls`, nothing else than TLS is spoken.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, stop: CancellationToken) {
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        let mut connections = JoinSet::new();
        loop {
            let tcp = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok((tcp, _)) => tcp,
                    // Out of descriptors, as a rule, which ends when some connection does.
                    Err(error) => {
                        tracing::warn!("the streaming server cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let place = self.places.clone().try_acquire_owned();
            let full = place.is_err();
            let Ok(place) = place.or_else(|_| refusals.clone().try_acquire_owned()) else { continue };
            let (server, tls, stop) = (self.clone(), tls.clone(), stop.child_token());
            connections.spawn(async move {
                http::connection(server, tcp, tls, full, stop).await;
                drop(place);
            });
        }
        drop(listener);
        // Each ends by itself in this time, or is ended.
        let patience = self.config.drain * 4;
        let _ = timeout(patience, async { while connections.join_next().await.is_some() {} }).await;
        connections.shutdown().await;
    }
}
