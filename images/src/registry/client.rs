//! HTTP clients: made at first use, because reading the system's authorities costs memory, and kept by what they were
//! made from, so that pulls share connections.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::{NoProxy, Proxy, Url, redirect};
use rustls::ClientConfig;

use super::chain;
use super::guard::Guard;
use super::tls::{self, TlsSettings};

/// Until a connection stands, its TLS handshake included.
const CONNECT: Duration = Duration::from_secs(10);
/// Settings whose clients are kept. A node has some registries; who edits a file leaves old ones here.
const KEPT: usize = 16;
/// Never asked of a proxy, as Go's programs do: it would mean its own.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// The clients of one host's settings.
pub(super) struct Clients {
    settings: TlsSettings,
    /// Between two pieces of a body.
    read: Duration,
    proxies: Arc<Proxies>,
    tls: OnceLock<Result<ClientConfig, String>>,
    /// By whether it speaks TLS, and whether it is for where a registry has sent us.
    built: [OnceLock<Result<reqwest::Client, String>>; 4],
}

impl Clients {
    fn new(settings: TlsSettings, read: Duration, proxies: Arc<Proxies>) -> Clients {
        Clients { settings, read, proxies, tls: OnceLock::new(), built: Default::default() }
    }

    /// A client for HTTPS, or for plain HTTP; one that is guarded connects to nothing on this node.
    pub(super) fn get(&self, secure: bool, guarded: bool) -> Result<reqwest::Client, String> {
        let [plain, plain_guarded, tls, tls_guarded] = &self.built;
        let cell = match (secure, guarded) {
            (false, false) => plain,
            (false, true) => plain_guarded,
            (true, false) => tls,
            (true, true) => tls_guarded,
        };
        cell.get_or_init(|| self.build(secure, guarded)).clone()
    }

    fn build(&self, secure: bool, guarded: bool) -> Result<reqwest::Client, String> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(self.settings.dial_timeout.unwrap_or(CONNECT))
            .read_timeout(self.read)
            // They are followed where it is known which headers are for which host.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("cri-wasm/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        for proxy in &self.proxies.list {
            builder = builder.proxy(proxy.clone());
        }
        if guarded {
            builder = builder.dns_resolver(Guard { exempt: self.proxies.hosts.clone() });
        }
        builder = if secure {
            let config = self.tls.get_or_init(|| tls::config(&self.settings)).clone()?;
            builder.tls_backend_preconfigured(config)
        } else {
            builder.tls_certs_only([])
        };
        builder.build().map_err(|error| chain(&error))
    }
}

/// The clients of all settings in use.
pub(super) struct Cache {
    read: Duration,
    proxies: Arc<Proxies>,
    kept: Mutex<Vec<Arc<Clients>>>,
}

impl Cache {
    /// With the proxies of this process's environment. `read`: the longest time between two pieces of a body.
    pub(super) fn new(read: Duration) -> Result<Cache, String> {
        Ok(Cache { read, proxies: Arc::new(Proxies::from_env()?), kept: Mutex::default() })
    }

    pub(super) fn clients(&self, settings: TlsSettings) -> Arc<Clients> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = match kept.iter().position(|clients| clients.settings == settings) {
            Some(at) => kept.remove(at),
            None => Arc::new(Clients::new(settings, self.read, self.proxies.clone())),
        };
        // The last used stands last; the first goes.
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(clients.clone());
        clients
    }
}

/// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case.
struct Proxies {
    list: Vec<Proxy>,
    hosts: Vec<String>,
}

impl Proxies {
    fn from_env() -> Result<Proxies, String> {
        let (_, mut except) = variable("NO_PROXY").unwrap_or_default();
        if !except.is_empty() {
            except.push(',');
        }
        except.push_str(LOOPBACK);
        let mut proxies = Proxies { list: Vec::new(), hosts: Vec::new() };
        for (name, secure) in [("HTTP_PROXY", false), ("HTTPS_PROXY", true)] {
            let Some((name, value)) = variable(name) else { continue };
            let text = if value.contains("://") { value } else { format!("http://{value}") };
            // The value may hold a password, so it is not shown.
            let wrong = || format!("{name} in the environment is no address of a proxy; it is to be http://HOST:PORT");
            let url = Url::parse(&text).map_err(|_| wrong())?;
            if !["http", "https"].contains(&url.scheme()) {
                return Err(wrong());
            }
            proxies.hosts.extend(url.host_str().map(str::to_owned));
            let proxy = if secure { Proxy::https(url) } else { Proxy::http(url) };
            let proxy = proxy.map_err(|_| wrong())?;
            proxies.list.push(proxy.no_proxy(NoProxy::from_string(&except)));
        }
        Ok(proxies)
    }
}

/// A variable under its name in capitals, else in lower case; an empty one is none.
fn variable(name: &str) -> Option<(String, String)> {
    [name.to_owned(), name.to_ascii_lowercase()].into_iter().find_map(|name| {
        let value = std::env::var(&name).ok().filter(|value| !value.trim().is_empty())?;
        Some((name, value))
    })
}
