//! One host of a session: what it may be asked, who we are to it, and the authorization that it has accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use super::RegistryError;
use super::body::Body;
use super::challenge::{self, Challenge};
use super::client::Clients;
use super::explain::explain;
use super::hosts::Capabilities;
use super::scheme::Schemes;
use super::token::{self, basic, secret};
use super::wire::{Ask, Wire};
use crate::auth::Who;
use crate::digest::Digest;

/// Until a manifest or a configuration is here as a whole.
const WHOLE: std::time::Duration = std::time::Duration::from_secs(120);
/// How often one that breaks off is begun again.
const BEGINNINGS: u32 = 3;
/// Failures after which a host is asked last.
const STRIKES: u32 = 3;

/// What one host has failed in, over a session.
#[derive(Clone, Default)]
pub(super) struct Strikes(Arc<AtomicU32>);

impl Strikes {
    /// A body broke off.
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// It did not answer.
    pub(super) fn out(&self) {
        self.0.fetch_add(STRIKES, Ordering::Relaxed);
    }

    pub(super) fn is_out(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= STRIKES
    }
}

/// What makes a host, besides what it learns.
pub(super) struct Endpoint {
    /// Host and port.
    pub(super) host: String,
    pub(super) place: Place,
    pub(super) can: Capabilities,
    pub(super) clients: Arc<Clients>,
    pub(super) headers: HeaderMap,
    pub(super) repository: String,
    /// The registry that a mirror is asked to stand for.
    pub(super) namespace: Option<String>,
    pub(super) who: Who,
    pub(super) learned: Learned,
}

/// Scheme and path of a host.
pub(super) enum Place {
    Said {
        secure: bool,
        path: String,
    },
    /// By default: HTTPS, or what is found out.
    Asked(Arc<Schemes>),
}

/// What a session finds out about a host.
#[derive(Default)]
pub(super) struct Learned {
    wire: OnceCell<Wire>,
    authorization: Mutex<Authorization>,
    pub(super) strikes: Strikes,
}

/// The header in use.
#[derive(Default)]
struct Authorization {
    /// How often it was made: requests that are refused with the same one fetch one new token.
    made: u64,
    header: Option<HeaderValue>,
    /// For a token: when to fetch the next one, and how.
    renew: Option<(Instant, Challenge)>,
}

impl Endpoint {
    /// A manifest with its digest, which is checked where `target` is one.
    pub(super) async fn manifest(&self, target: &str, limit: u64, last: bool) -> Result<(Vec<u8>, Digest), RegistryError> {
        let what = format!("manifest {target}");
        let bytes = self.whole(&format!("manifests/{target}"), &what, Some(crate::manifest::ACCEPT), limit, last).await?;
        let digest = Digest::of(&bytes);
        if target.contains(':') && digest.as_str() != target {
            return Err(RegistryError::Mismatch { what, expected: target.to_owned(), actual: digest.to_string() });
        }
        Ok((bytes, digest))
    }

    /// A blob in memory, checked.
    pub(super) async fn small_blob(&self, digest: &Digest, size: u64, last: bool) -> Result<Vec<u8>, RegistryError> {
        let bytes = self.whole(&format!("blobs/{digest}"), &format!("blob {digest}"), None, size, last).await?;
        let actual = Digest::of(&bytes);
        if actual == *digest {
            return Ok(bytes);
        }
        Err(RegistryError::Mismatch { what: "a blob".to_owned(), expected: digest.to_string(), actual: actual.to_string() })
    }

    /// The beginning of a blob of `size` bytes at byte `from`.
    pub(super) async fn blob(&self, digest: &Digest, size: u64, from: u64, last: bool) -> Result<Body, RegistryError> {
        let what = format!("blob {digest}");
        let response = self.get(&format!("blobs/{digest}"), &what, None, from, last).await?;
        let length = response.content_length();
        let body = Body::new(response, what.clone(), size, from, self.learned.strikes.clone())?;
        match length {
            // Another host may have the whole.
            Some(length) if length < size.saturating_sub(body.start()) => {
                Err(RegistryError::Unavailable(format!("{what}: it sends {length} bytes, and the manifest says {size}")))
            }
            _ => Ok(body),
        }
    }

    async fn whole(
        &self,
        path: &str,
        what: &str,
        accept: Option<&'static str>,
        limit: u64,
        last: bool,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut beginnings = 0;
        let arrives = async {
            loop {
                beginnings += 1;
                let response = self.get(path, what, accept, 0, last).await?;
                match Body::new(response, what.to_owned(), limit, 0, self.learned.strikes.clone())?.all().await {
                    Err(RegistryError::Cut(_)) if beginnings < BEGINNINGS => {}
                    done => return done,
                }
            }
        };
        let timed_out = |_| Err(RegistryError::Unavailable(format!("{what}: it was not here after {} s", WHOLE.as_secs())));
        tokio::time::timeout(WHOLE, arrives).await.unwrap_or_else(timed_out)
    }

    async fn get(
        &self,
        path: &str,
        what: &str,
        accept: Option<&'static str>,
        from: u64,
        last: bool,
    ) -> Result<Response, RegistryError> {
        let wire = self.learned.wire.get_or_try_init(|| self.wire()).await.map_err(|error| error.of(what))?;
        let base = wire.home().as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}/{}/{path}", self.repository));
        let mut url = url.map_err(|error| RegistryError::Unavailable(format!("{what}: {error}")))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        let mut refused = 0;
        loop {
            let (made, authorization) = self.authorization(wire, last).await?;
            let response = wire.send(&Ask { accept, from, authorization, ..Ask::get(url.clone()) }, what, last).await?;
            match response.status() {
                status if status.is_success() => return Ok(response),
                StatusCode::UNAUTHORIZED if refused < 3 => {
                    // A token that another request has renewed meanwhile is tried before one is fetched.
                    let ours = self.renew(wire, made, &response, last).await?;
                    refused += if ours { 3 } else { 1 };
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(RegistryError::Unauthorized(explain(response).await.text));
                }
                StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Err(RegistryError::Range(format!("{what}: it has no bytes from {from} on")));
                }
                StatusCode::NOT_FOUND => {
                    let what = match explain(response).await.no_repository {
                        true => format!("repository {}", self.repository),
                        false => what.to_owned(),
                    };
                    return Err(RegistryError::NotFound { what });
                }
                _ => return Err(RegistryError::Unavailable(format!("{what}: {}", explain(response).await.text))),
            }
        }
    }

    async fn wire(&self) -> Result<Wire, RegistryError> {
        let (secure, path) = match &self.place {
            Place::Said { secure, path } => (*secure, path.as_str()),
            Place::Asked(schemes) => (!schemes.is_plain(&self.host, &self.clients).await?, "/v2"),
        };
        let scheme = if secure { "https" } else { "http" };
        let home = Url::parse(&format!("{scheme}://{}{path}", self.host));
        let home = home.map_err(|error| RegistryError::Config(format!("{:?} is no host: {error}", self.host)))?;
        Ok(Wire::new(self.clients.clone(), home, self.headers.clone()))
    }

    /// The header for a request. A token that was given is sent at once, a password only when it is asked for; a token
    /// that runs out is replaced before.
    async fn authorization(&self, wire: &Wire, last: bool) -> Result<(u64, Option<HeaderValue>), RegistryError> {
        let mut authorization = self.learned.authorization.lock().await;
        if let (0, None, Who::Bearer(token)) = (authorization.made, &authorization.header, &self.who) {
            authorization.header = Some(secret(&format!("Bearer {token}"))?);
        }
        if let Some((_, challenge)) = authorization.renew.take_if(|(at, _)| *at <= Instant::now()) {
            *authorization = self.fetch(wire, authorization.made, challenge, last).await?;
        }
        Ok((authorization.made, authorization.header.clone()))
    }

    /// Answers a 401 to a request that was sent with the header made `made` times. Whether it was made now.
    async fn renew(&self, wire: &Wire, made: u64, response: &Response, last: bool) -> Result<bool, RegistryError> {
        let mut authorization = self.learned.authorization.lock().await;
        if authorization.made != made {
            return Ok(false);
        }
        if let Who::Bearer(_) = &self.who {
            return Err(RegistryError::Unauthorized("the registry token was not accepted".to_owned()));
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<Challenge> = headers.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect();
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(bearer) = find("bearer").filter(|bearer| bearer.get("realm").is_some()) {
            *authorization = self.fetch(wire, made, bearer.clone(), last).await?;
            return Ok(true);
        }
        let refused = |reason: &str| Err(RegistryError::Unauthorized(reason.to_owned()));
        match (find("basic"), &self.who) {
            (Some(_), Who::Basic(username, password)) => {
                let header = Some(basic(username, password)?);
                *authorization = Authorization { made: made + 1, header, renew: None };
                Ok(true)
            }
            (Some(_), Who::Identity(_)) => refused("it wants a user name and a password, and got an identity token"),
            (Some(_), _) => refused("it wants credentials, and none were given for it"),
            (None, _) => refused("it says neither Basic nor Bearer, and no other way is known here"),
        }
    }

    async fn fetch(&self, wire: &Wire, made: u64, challenge: Challenge, last: bool) -> Result<Authorization, RegistryError> {
        let token = token::fetch(wire, &challenge, &self.repository, &self.who, last).await?;
        tracing::debug!(host = self.host, "the registry's token service gave a token");
        Ok(Authorization { made: made + 1, header: Some(token.header), renew: token.renew.map(|at| (at, challenge)) })
    }
}
