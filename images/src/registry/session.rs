//! One pull's conversation about one repository, with each host that may be asked for it: the mirrors in their order,
//! then the registry. A host that refuses, fails or lies is passed over for the next, as containerd does.

use super::RegistryError;
use super::body::Body;
use super::endpoint::Endpoint;
use crate::digest::Digest;

/// A repository on its hosts, and who we are to them.
pub(crate) struct Session {
    /// The name in the reference.
    registry: String,
    /// Never empty; the last is the server.
    endpoints: Vec<Endpoint>,
}

impl Session {
    pub(super) fn new(registry: String, endpoints: Vec<Endpoint>) -> Session {
        Session { registry, endpoints }
    }

    /// The host that is asked last: the registry itself, unless a `hosts.toml` has put another in its place.
    pub(crate) fn host(&self) -> &str {
        self.endpoints.last().map_or(&self.registry, |endpoint| &endpoint.host)
    }

    /// A manifest or an index by tag or digest, with its digest, which is checked where one was asked for. A tag is
    /// asked only of hosts that are trusted to resolve it.
    pub(crate) async fn manifest(&self, target: &str, limit: u64) -> Result<(Vec<u8>, Digest), RegistryError> {
        let by_digest = target.contains(':');
        let mut tried = Tried::default();
        for (endpoint, last) in self.hosts(|endpoint| endpoint.can.pull && (by_digest || endpoint.can.resolve)) {
            match endpoint.manifest(target, limit, last).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => tried.add(endpoint, error)?,
            }
        }
        Err(tried.error(&self.registry, if by_digest { "pull" } else { "resolve" }))
    }

    /// A blob that is small enough to be held in memory, checked.
    pub(crate) async fn small_blob(&self, digest: &Digest, size: u64, limit: u64) -> Result<Vec<u8>, RegistryError> {
        if size > limit {
            return Err(RegistryError::TooLarge { what: format!("blob {digest} of {size} bytes"), limit });
        }
        let mut tried = Tried::default();
        for (endpoint, last) in self.hosts(|endpoint| endpoint.can.pull) {
            match endpoint.small_blob(digest, size, last).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => tried.add(endpoint, error)?,
            }
        }
        Err(tried.error(&self.registry, "pull"))
    }

    /// Begins a blob of `size` bytes at byte `from`, or at 0 where the registry does not serve parts ([`Body::start`]
    /// says); the caller checks its digest.
    pub(crate) async fn blob(&self, digest: &Digest, size: u64, from: u64) -> Result<Body, RegistryError> {
        let mut tried = Tried::default();
        for (endpoint, last) in self.hosts(|endpoint| endpoint.can.pull) {
            match endpoint.blob(digest, size, from, last).await {
                Ok(body) => return Ok(body),
                Err(error) => tried.add(endpoint, error)?,
            }
        }
        Err(tried.error(&self.registry, "pull"))
    }

    /// The hosts in their order, but those that have failed in this session after the others; and which is the last.
    fn hosts(&self, able: impl Fn(&Endpoint) -> bool) -> Vec<(&Endpoint, bool)> {
        let mut hosts: Vec<_> = self.endpoints.iter().filter(|endpoint| able(endpoint)).map(|host| (host, false)).collect();
        hosts.sort_by_key(|(endpoint, _)| endpoint.learned.strikes.is_out());
        if let Some((_, last)) = hosts.last_mut() {
            *last = true;
        }
        hosts
    }
}

/// The hosts that were asked in vain.
#[derive(Default)]
struct Tried {
    before: Vec<String>,
    last: Option<(String, RegistryError)>,
}

impl Tried {
    /// Notes a failure; it is the end where another host cannot help.
    fn add(&mut self, endpoint: &Endpoint, error: RegistryError) -> Result<(), RegistryError> {
        match &error {
            RegistryError::Config(_) | RegistryError::Range(_) => return Err(error),
            RegistryError::Unavailable(_) => endpoint.learned.strikes.out(),
            _ => {}
        }
        tracing::debug!(host = endpoint.host, reason = error.clause(), "registry host is passed over");
        if let Some((host, error)) = self.last.replace((endpoint.host.clone(), error)) {
            self.before.push(format!("{host}: {}", error.clause()));
        }
        Ok(())
    }

    /// The error of the host that was asked last, with what the others said.
    fn error(self, registry: &str, need: &str) -> RegistryError {
        let Some((host, error)) = self.last else {
            return RegistryError::Config(format!(
                "none of the hosts for {registry} may {need}; add {need:?} to the capabilities of one in its hosts.toml"
            ));
        };
        match self.before.is_empty() {
            true => error,
            false => error.after(&format!("asked before {host}: {}", self.before.join("; "))),
        }
    }
}
