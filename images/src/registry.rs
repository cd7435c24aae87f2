//! Talking to registries: which scheme a host speaks, who we are to it, and bodies with a cap.
//!
//! oci-client does the token dance. The bodies are read here, over the HTTP client beneath it, because it reads
//! manifests and error texts of any length into memory, follows the foreign URLs of a layer, and hashes what we hash
//! again.

mod session;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::redirect;

pub(crate) use session::{Body, Session};

use crate::auth::Credentials;
use crate::reference::Reference;

/// Until a connection stands, its TLS handshake included.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two pieces of a body.
const READ: Duration = Duration::from_secs(60);
/// Redirects followed: registry to storage is one, rarely two.
const REDIRECTS: usize = 5;

/// What a registry did not do; clauses, to which the pull adds the reference.
#[derive(Debug, Clone)]
pub(crate) enum RegistryError {
    NotFound { what: String },
    Unauthorized(String),
    Unavailable(String),
    TooLarge { what: String, limit: u64 },
    Mismatch { what: String, expected: String, actual: String },
}

/// The HTTP clients, and what was learned about hosts.
pub(crate) struct Registries {
    /// Without certificates, so that a node that has none pulls from plain registries.
    plain: reqwest::Client,
    /// Made at first use, because it reads the system's certificates.
    tls: OnceLock<Result<reqwest::Client, String>>,
    insecure: Vec<String>,
    /// Loopback hosts whose scheme has been tried.
    plain_hosts: Mutex<HashMap<String, bool>>,
}

impl Registries {
    pub(crate) fn new(insecure: &[String]) -> Result<Registries, String> {
        // The error says that a provider is there already: whichever, it serves.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let plain = builder().tls_certs_only([]).build().map_err(|error| chain(&error))?;
        Ok(Registries { plain, tls: OnceLock::new(), insecure: insecure.to_vec(), plain_hosts: Mutex::new(HashMap::new()) })
    }

    /// Begins to talk about one repository.
    pub(crate) async fn session(&self, reference: &Reference, credentials: Credentials) -> Result<Session, RegistryError> {
        // Docker Hub's API does not live under its name.
        let host = if reference.registry() == "docker.io" { "registry-1.docker.io" } else { reference.registry() };
        let plain = self.is_plain(host).await?;
        let client = if plain { self.plain.clone() } else { self.tls()? };
        Ok(Session::new(client, plain, host.to_owned(), reference.repository().to_owned(), credentials))
    }

    fn tls(&self) -> Result<reqwest::Client, RegistryError> {
        let made = self.tls.get_or_init(|| builder().build().map_err(|error| chain(&error)));
        made.clone().map_err(|error| RegistryError::Unavailable(format!("{error}; HTTPS needs the package ca-certificates")))
    }

    async fn is_plain(&self, host: &str) -> Result<bool, RegistryError> {
        if self.insecure.iter().any(|listed| listed == host || listed == without_port(host)) {
            return Ok(true);
        }
        if !is_loopback(host) {
            return Ok(false);
        }
        if let Some(plain) = self.plain_hosts.lock().unwrap_or_else(PoisonError::into_inner).get(host) {
            return Ok(*plain);
        }
        // As Docker does: HTTPS first, and HTTP where nothing speaks TLS.
        let secure = match self.tls() {
            Ok(client) => client.get(format!("https://{host}/v2/")).send().await.map_err(|error| chain(&error)),
            Err(_) => Err("this node has no certificates".to_owned()),
        };
        let plain = match secure {
            Ok(_) => false,
            Err(over_tls) => match self.plain.get(format!("http://{host}/v2/")).send().await {
                // What a TLS server says to HTTP.
                Ok(answer) if answer.status() == reqwest::StatusCode::BAD_REQUEST => {
                    return Err(RegistryError::Unavailable(over_tls));
                }
                Ok(_) => true,
                Err(error) => {
                    let error = chain(&error);
                    return Err(RegistryError::Unavailable(format!("HTTPS: {over_tls}; HTTP: {error}")));
                }
            },
        };
        self.plain_hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), plain);
        Ok(plain)
    }

    /// After a failure: what listens on a loopback port may be another program next time.
    pub(crate) fn forget(&self, host: &str) {
        self.plain_hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }
}

fn builder() -> reqwest::ClientBuilder {
    let policy = redirect::Policy::custom(|attempt| {
        let was_secure = attempt.previous().iter().any(|url| url.scheme() == "https");
        if was_secure && attempt.url().scheme() != "https" {
            return attempt.error("a redirect from HTTPS to HTTP");
        }
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("too many redirects");
        }
        attempt.follow()
    });
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(READ)
        .redirect(policy)
        .user_agent(concat!("cri-wasm/", env!("CARGO_PKG_VERSION")))
}

/// An error and its causes in one line: the HTTP client puts what matters into the last of them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) => {
            name
        }
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts_are_told_from_others() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.3.2.1", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1:5000", "127.example.com", "[fe80::1]:5000", "docker.io"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn ports_are_taken_off_hosts() {
        assert_eq!(without_port("a.b:5000"), "a.b");
        assert_eq!(without_port("[::1]:5000"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
    }
}
