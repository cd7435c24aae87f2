//! Tokens from the service that a registry names: Docker's token flow, by GET, and its OAuth2 form, by POST
//! (distribution's `spec/auth/token.md` and `oauth.md`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use reqwest::{Response, StatusCode, Url};
use tokio::time::Instant;

use super::RegistryError;
use super::challenge::Challenge;
use super::explain::{clean, explain};
use super::wire::{Ask, Wire};
use crate::auth::Who;

/// Bytes of an answer: tokens have some kB.
const LONGEST: usize = 64 << 10;
/// Until an answer is read.
const READ: Duration = Duration::from_secs(30);

/// A token that was given.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    /// When to fetch the next one, if the service said how long this one holds.
    pub(super) renew: Option<Instant>,
}

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: serde_json::Value,
}

/// Fetches a token for pulling from `repository`.
pub(super) async fn fetch(
    wire: &Wire,
    challenge: &Challenge,
    repository: &str,
    who: &Who,
    last: bool,
) -> Result<Token, RegistryError> {
    let realm = challenge.get("realm").unwrap_or_default();
    let unusable = |reason| RegistryError::Unauthorized(format!("its token service {:?} {reason}", clean(realm)));
    let realm = Url::parse(realm).map_err(|_| unusable("is no address"))?;
    match (wire.home().scheme(), realm.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err(unusable("is plain HTTP while the registry is HTTPS; nothing is sent to it")),
        _ => return Err(unusable("is neither HTTP nor HTTPS")),
    }
    let service = challenge.get("service").unwrap_or_default();
    // Its own wish is for where a mirror keeps the repository, under a name that we do not know.
    let mut scopes = vec![format!("repository:{repository}:pull")];
    let wished = challenge.get("scope").unwrap_or_default().split(' ').filter(|scope| !scope.is_empty());
    scopes.extend(wished.filter(|scope| scopes.iter().all(|known| known != scope)).map(str::to_owned).collect::<Vec<_>>());

    let response = match who {
        Who::Identity(token) => {
            post(wire, realm, service, &scopes, &[("grant_type", "refresh_token"), ("refresh_token", token)], last).await?
        }
        Who::Basic(username, password) => {
            let response = get(wire, realm.clone(), service, &scopes, Some(basic(username, password)?), last).await?;
            match response.status() {
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                    let grant = [("grant_type", "password"), ("username", username.as_str()), ("password", password.as_str())];
                    post(wire, realm, service, &scopes, &grant, last).await?
                }
                _ => response,
            }
        }
        Who::Anonymous | Who::Bearer(_) => get(wire, realm, service, &scopes, None, last).await?,
    };
    if !response.status().is_success() {
        return Err(RegistryError::Unauthorized(format!("its token service said {}", explain(response).await.text)));
    }
    read(response).await
}

/// `Basic` with a name and a password.
pub(super) fn basic(username: &str, password: &str) -> Result<HeaderValue, RegistryError> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

pub(super) fn secret(value: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| RegistryError::Unauthorized("the credentials have characters that HTTP cannot carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn get(
    wire: &Wire,
    mut realm: Url,
    service: &str,
    scopes: &[String],
    authorization: Option<HeaderValue>,
    last: bool,
) -> Result<Response, RegistryError> {
    {
        let mut query = realm.query_pairs_mut();
        if !service.is_empty() {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    wire.send(&Ask { authorization, ..Ask::get(realm) }, "token", last).await
}

async fn post(
    wire: &Wire,
    realm: Url,
    service: &str,
    scopes: &[String],
    grant: &[(&str, &str)],
    last: bool,
) -> Result<Response, RegistryError> {
    // The encoding of a form is that of a query.
    let mut form = realm.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .extend_pairs(grant)
        .append_pair("service", service)
        .append_pair("client_id", "cri-wasm")
        .append_pair("scope", &scopes.join(" "));
    let form = form.query().map(str::to_owned);
    wire.send(&Ask { form, ..Ask::get(realm) }, "token", last).await
}

async fn read(mut response: Response) -> Result<Token, RegistryError> {
    let wrong = |reason: &str| RegistryError::Unavailable(format!("its token service {reason}"));
    let mut bytes = Vec::new();
    let deadline = Instant::now() + READ;
    loop {
        let chunk = tokio::time::timeout_at(deadline, response.chunk()).await.map_err(|_| wrong("did not finish its answer"))?;
        let Some(chunk) = chunk.map_err(|_| wrong("broke off its answer"))? else { break };
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            return Err(wrong(&format!("sent more than {LONGEST} bytes")));
        }
    }
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| wrong("sent something that is no token"))?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() {
        return Err(wrong("sent an answer without a token"));
    }
    // A tenth before its end, so that it does not run out on the way. A century is as good as any longer time.
    let seconds = answer.expires_in.as_u64().filter(|seconds| (1..=3_000_000_000).contains(seconds));
    let renew = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds).mul_f64(0.9));
    Ok(Token { header: secret(&format!("Bearer {token}"))?, renew })
}
