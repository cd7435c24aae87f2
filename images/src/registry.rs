//! Talking to registries: which hosts are asked and how, who we are to them, and bodies with a cap.
//!
//! The requests are made here, over the HTTP client beneath oci-client, because oci-client reads manifests, tokens and
//! error texts of any length into memory, knows one mirror and no client certificate, and does not ask again.

mod body;
mod certs_dir;
pub(crate) mod challenge;
mod client;
mod endpoint;
mod explain;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guard;
pub(crate) mod hosts;
mod retry;
mod scheme;
mod session;
mod tls;
mod token;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;

pub(crate) use body::Body;
pub(crate) use session::Session;

use crate::auth::Credentials;
use crate::reference::Reference;
use certs_dir::Loaded;
use client::Cache;
use endpoint::{Endpoint, Learned, Place};
use hosts::HostConfig;
use scheme::Schemes;
use tls::TlsSettings;

/// What a registry did not do; clauses, to which the pull adds the reference.
#[derive(Debug, Clone)]
pub(crate) enum RegistryError {
    NotFound {
        what: String,
    },
    Unauthorized(String),
    Unavailable(String),
    /// The body broke off, or the connection before it: asking again from where it ended makes sense.
    Cut(String),
    /// The registry does not give the part that was asked for: begin again at 0.
    Range(String),
    TooLarge {
        what: String,
        limit: u64,
    },
    Mismatch {
        what: String,
        expected: String,
        actual: String,
    },
    /// What this node's operator has set does not work; the text names the file.
    Config(String),
}

impl RegistryError {
    /// As part of a longer text.
    fn clause(&self) -> String {
        match self {
            RegistryError::NotFound { what } => format!("{what} not found"),
            RegistryError::Unauthorized(text) => format!("refused access: {text}"),
            RegistryError::Unavailable(text)
            | RegistryError::Cut(text)
            | RegistryError::Range(text)
            | RegistryError::Config(text) => text.clone(),
            RegistryError::TooLarge { what, limit } => format!("{what} is above the limit of {limit}"),
            RegistryError::Mismatch { what, expected, actual } => format!("{what} has digest {actual} instead of {expected}"),
        }
    }

    /// With the name of what was asked for, where a text does not have it yet.
    fn of(self, what: &str) -> RegistryError {
        match self {
            RegistryError::Unavailable(text) => RegistryError::Unavailable(format!("{what}: {text}")),
            error => error,
        }
    }

    /// With what went before it.
    fn after(self, before: &str) -> RegistryError {
        let text = |text: String| format!("{text} ({before})");
        match self {
            RegistryError::NotFound { what } => RegistryError::NotFound { what: text(what) },
            RegistryError::Unauthorized(detail) => RegistryError::Unauthorized(text(detail)),
            RegistryError::Unavailable(detail) => RegistryError::Unavailable(text(detail)),
            RegistryError::Cut(detail) => RegistryError::Cut(text(detail)),
            RegistryError::Range(detail) => RegistryError::Range(text(detail)),
            RegistryError::TooLarge { what, limit } => RegistryError::TooLarge { what: text(what), limit },
            RegistryError::Mismatch { what, expected, actual } => RegistryError::Mismatch { what: text(what), expected, actual },
            RegistryError::Config(detail) => RegistryError::Config(text(detail)),
        }
    }
}

/// The HTTP clients, and what was learned about hosts.
pub(crate) struct Registries {
    clients: Cache,
    certs_dirs: Vec<PathBuf>,
    schemes: Arc<Schemes>,
}

impl Registries {
    pub(crate) fn new(insecure: &[String], certs_dirs: &[PathBuf], read: Duration) -> Result<Registries, String> {
        tls::install_provider();
        let schemes = Arc::new(Schemes::new(insecure));
        Ok(Registries { clients: Cache::new(read)?, certs_dirs: certs_dirs.to_vec(), schemes })
    }

    /// Begins to talk about one repository.
    pub(crate) async fn session(&self, reference: &Reference, credentials: Credentials) -> Result<Session, RegistryError> {
        let registry = reference.registry();
        let (directories, name) = (self.certs_dirs.clone(), registry.to_owned());
        let loaded = tokio::task::spawn_blocking(move || certs_dir::load(&directories, &name)).await;
        let loaded = loaded.map_err(|error| RegistryError::Config(error.to_string()))?.map_err(RegistryError::Config)?;
        let loaded = loaded.unwrap_or_else(|| vec![Loaded { host: HostConfig::default(), tls: TlsSettings::default() }]);
        let endpoints = loaded.into_iter().map(|loaded| self.endpoint(reference, &credentials, loaded)).collect();
        Ok(Session::new(registry.to_owned(), endpoints))
    }

    fn endpoint(&self, reference: &Reference, credentials: &Credentials, loaded: Loaded) -> Endpoint {
        let Loaded { host: HostConfig { server, can, header, .. }, tls } = loaded;
        let registry = reference.registry();
        let origin = origin(registry);
        let (host, place) = match server {
            Some(server) => (server.host, Place::Said { secure: server.secure, path: server.path }),
            None => (origin.to_owned(), Place::Asked(self.schemes.clone())),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in header {
            headers.append(name, value);
        }
        Endpoint {
            can,
            clients: self.clients.clients(tls),
            headers,
            repository: reference.repository().to_owned(),
            namespace: (host != registry && host != origin).then(|| registry.to_owned()),
            who: credentials.for_host(&host, registry),
            host,
            place,
            learned: Learned::default(),
        }
    }

    /// After a failure: what listens on a loopback port may be another program next time.
    pub(crate) fn forget(&self, host: &str) {
        self.schemes.forget(host);
    }
}

/// Where a registry is. Docker Hub's API does not live under its name.
fn origin(registry: &str) -> &str {
    if registry == "docker.io" { "registry-1.docker.io" } else { registry }
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

#[cfg(test)]
mod tests;
