//! One request to one host: redirects, each with only the headers that are for its target, and tries again where the
//! answer may be another in a moment.

use std::sync::Arc;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::OnceCell;

use super::client::Clients;
use super::explain::explain;
use super::guard;
use super::retry::{Patience, retry_after};
use super::{RegistryError, chain, tls};

/// Redirects followed: registry to storage is one, rarely two.
const REDIRECTS: usize = 5;

/// How one host is spoken with.
pub(super) struct Wire {
    clients: Arc<Clients>,
    /// Where the host is.
    home: Url,
    /// For the host, and no other.
    headers: HeaderMap,
    /// Whether the host is on this node or its link: then it may send us there too.
    internal: OnceCell<bool>,
}

/// A request.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) url: Url,
    /// A form to be posted; else it is fetched.
    pub(super) form: Option<String>,
    pub(super) accept: Option<&'static str>,
    /// Bytes to leave out at the beginning.
    pub(super) from: u64,
    /// For the URL's origin, and no other.
    pub(super) authorization: Option<HeaderValue>,
}

/// Why there is no answer.
enum Trouble {
    /// It may be better in a moment.
    Passing(String),
    /// No connection stands: another host is the better try.
    Unreachable(String),
    /// It will not be better.
    Lasting(RegistryError),
}

impl Ask {
    pub(super) fn get(url: Url) -> Ask {
        Ask { url, form: None, accept: None, from: 0, authorization: None }
    }
}

impl Wire {
    pub(super) fn new(clients: Arc<Clients>, home: Url, headers: HeaderMap) -> Wire {
        Wire { clients, home, headers, internal: OnceCell::new() }
    }

    pub(super) fn home(&self) -> &Url {
        &self.home
    }

    /// Sends, and again after 429, 5xx and connections that break, while patience lasts. An answer with any other
    /// status is given back.
    pub(super) async fn send(&self, ask: &Ask, what: &str, last: bool) -> Result<Response, RegistryError> {
        let mut patience = Patience::new(last);
        loop {
            let sent = match tokio::time::timeout_at(patience.deadline, self.once(ask)).await {
                Ok(sent) => sent,
                Err(_) => Err(Trouble::Lasting(RegistryError::Unavailable("it did not answer in time".to_owned()))),
            };
            let (trouble, asked) = match sent {
                Ok(response) => {
                    let status = response.status();
                    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
                        return Ok(response);
                    }
                    let asked = retry_after(response.headers());
                    (explain(response).await.text, asked)
                }
                Err(Trouble::Passing(trouble)) => (trouble, None),
                Err(Trouble::Unreachable(trouble)) if last => (trouble, None),
                Err(Trouble::Unreachable(trouble)) => return Err(RegistryError::Unavailable(format!("{what}: {trouble}"))),
                Err(Trouble::Lasting(error)) => return Err(error.of(what)),
            };
            let Some(pause) = patience.pause(asked) else {
                let asked = asked.map(|asked| format!("; it asks to be left alone for {} s", asked.as_secs()));
                return Err(RegistryError::Unavailable(format!("{what}: {trouble}{}", asked.unwrap_or_default())));
            };
            tracing::debug!(host = self.home.host_str(), what, trouble, ?pause, "registry request is tried again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends, and follows where the answer leads.
    async fn once(&self, ask: &Ask) -> Result<Response, Trouble> {
        let refuse = |text: String| Trouble::Lasting(RegistryError::Unavailable(text));
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS {
            let response = self.hop(ask, &url).await?;
            let status = response.status();
            // 304 is no redirect; 300 gives a choice.
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            if ask.form.is_some() {
                return Err(refuse("it redirects a request that has credentials in its body; that is not followed".to_owned()));
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.filter(|next| ["http", "https"].contains(&next.scheme()) && next.host_str().is_some());
            let Some(next) = next else {
                return Err(refuse(format!("HTTP {status} without a place to go to")));
            };
            if url.scheme() == "https" && next.scheme() != "https" {
                let host = next.host_str().unwrap_or_default();
                return Err(refuse(format!("a redirect from HTTPS to HTTP, to {host}; that is not followed")));
            }
            url = next;
        }
        Err(refuse(format!("more than {REDIRECTS} redirects")))
    }

    async fn hop(&self, ask: &Ask, url: &Url) -> Result<Response, Trouble> {
        let at_home = url.origin() == self.home.origin();
        let guarded = !at_home && !*self.internal.get_or_init(|| guard::leads_internal(&self.home)).await;
        if guarded && let Some(refusal) = guard::refuse(url) {
            return Err(Trouble::Lasting(RegistryError::Unavailable(refusal)));
        }
        let secure = url.scheme() == "https";
        let client = self.clients.get(secure, guarded).map_err(|error| Trouble::Lasting(RegistryError::Config(error)))?;
        let mut request = match &ask.form {
            Some(form) => client.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone()),
            None => client.get(url.clone()),
        };
        if at_home {
            request = request.headers(self.headers.clone());
        }
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, accept);
        }
        if ask.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", ask.from));
        }
        // After the host's own headers, so that a token that the registry asked for takes an `Authorization`'s place.
        if let Some(authorization) = ask.authorization.as_ref().filter(|_| url.origin() == ask.url.origin()) {
            let mut one = HeaderMap::new();
            one.insert(AUTHORIZATION, authorization.clone());
            request = request.headers(one);
        }
        request.send().await.map_err(|error| {
            let connecting = error.is_connect();
            let error = error.without_url();
            let text = chain(&error);
            match tls::remedy(&error) {
                Some(remedy) => Trouble::Lasting(RegistryError::Unavailable(format!("{text}; {remedy}"))),
                // The guard's words are among them.
                None if guarded && text.contains("not followed") => Trouble::Lasting(RegistryError::Unavailable(text)),
                None if connecting => Trouble::Unreachable(text),
                None => Trouble::Passing(text),
            }
        })
    }
}
