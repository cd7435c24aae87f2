//! One pull's conversation with one repository: requests with retries, authentication when it is asked for, bodies
//! with a cap.

use std::time::Duration;

use bytes::Bytes;
use oci_distribution::client::{ClientConfig, ClientProtocol};
use oci_distribution::secrets::RegistryAuth;
use oci_distribution::{Client as TokenClient, Reference as TokenReference, RegistryOperation};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Response, StatusCode};
use tokio::sync::Mutex;

use super::{CONNECT, READ, RegistryError, chain};
use crate::auth::Credentials;
use crate::digest::Digest;

/// Pauses between tries of a request that met no answer, 429 or 5xx.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// Bytes of an error's body that are read: some sentences in JSON.
const ERROR_BYTES: u64 = 4096;

/// A repository on a registry, and who we are to it.
pub(crate) struct Session {
    client: reqwest::Client,
    plain: bool,
    host: String,
    repository: String,
    credentials: Credentials,
    /// The `Authorization` header in use, with the number of times that it was made: two requests that are refused
    /// with the same one fetch one new token.
    header: Mutex<(u64, Option<HeaderValue>)>,
}

/// A body under way.
pub(crate) struct Body {
    response: Response,
    what: String,
    left: u64,
    limit: u64,
}

impl Session {
    pub(super) fn new(
        client: reqwest::Client,
        plain: bool,
        host: String,
        repository: String,
        credentials: Credentials,
    ) -> Session {
        Session { client, plain, host, repository, credentials, header: Mutex::new((0, None)) }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// A manifest or an index by tag or digest, with its digest, which is checked where one was asked for.
    pub(crate) async fn manifest(&self, target: &str, limit: u64) -> Result<(Vec<u8>, Digest), RegistryError> {
        let what = format!("manifest {target}");
        let response = self.get(&format!("manifests/{target}"), &what, Some(crate::manifest::ACCEPT)).await?;
        let bytes = Body::new(response, what.clone(), limit)?.all().await?;
        let digest = Digest::of(&bytes);
        if target.contains(':') && digest.as_str() != target {
            return Err(RegistryError::Mismatch { what, expected: target.to_owned(), actual: digest.to_string() });
        }
        Ok((bytes, digest))
    }

    /// A blob that is small enough to be held in memory, checked.
    pub(crate) async fn small_blob(&self, digest: &Digest, size: u64, limit: u64) -> Result<Vec<u8>, RegistryError> {
        if size > limit {
            return Err(RegistryError::TooLarge { what: format!("blob {digest} of {size} bytes"), limit });
        }
        let bytes = self.blob(digest, size).await?.all().await?;
        let actual = Digest::of(&bytes);
        if actual == *digest {
            return Ok(bytes);
        }
        Err(RegistryError::Mismatch { what: "a blob".to_owned(), expected: digest.to_string(), actual: actual.to_string() })
    }

    /// Begins a blob of `size` bytes; the caller checks its digest.
    pub(crate) async fn blob(&self, digest: &Digest, size: u64) -> Result<Body, RegistryError> {
        let what = format!("blob {digest}");
        let response = self.get(&format!("blobs/{digest}"), &what, None).await?;
        Body::new(response, what, size)
    }

    async fn get(&self, path: &str, what: &str, accept: Option<&'static str>) -> Result<Response, RegistryError> {
        let url = format!("{}://{}/v2/{}/{path}", self.scheme(), self.host, self.repository);
        let mut pauses = PAUSES.iter();
        let mut refused = false;
        loop {
            let (made, header) = self.header().await;
            let mut request = self.client.get(&url);
            if let Some(accept) = accept {
                request = request.header(ACCEPT, accept);
            }
            if let Some(header) = header {
                request = request.header(AUTHORIZATION, header);
            }
            let trouble = match request.send().await {
                Ok(response) => match response.status() {
                    status if status.is_success() => return Ok(response),
                    StatusCode::UNAUTHORIZED if !refused => {
                        refused = true;
                        self.authenticate(made).await?;
                        continue;
                    }
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        return Err(RegistryError::Unauthorized(explain(response).await));
                    }
                    StatusCode::NOT_FOUND => return Err(RegistryError::NotFound { what: what.to_owned() }),
                    status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => explain(response).await,
                    _ => return Err(RegistryError::Unavailable(format!("{what}: {}", explain(response).await))),
                },
                Err(error) => chain(&error.without_url()),
            };
            let Some(pause) = pauses.next() else {
                return Err(RegistryError::Unavailable(format!("{what}: {trouble}")));
            };
            tracing::debug!(host = self.host, what, trouble, "registry request is tried again");
            tokio::time::sleep(*pause).await;
        }
    }

    fn scheme(&self) -> &'static str {
        if self.plain { "http" } else { "https" }
    }

    /// The header for a request. A token that was given is sent at once, a password only when it is asked for.
    async fn header(&self) -> (u64, Option<HeaderValue>) {
        let mut header = self.header.lock().await;
        if let ((0, None), Credentials::Bearer(token)) = (&*header, &self.credentials) {
            header.1 = secret(&format!("Bearer {token}")).ok();
        }
        header.clone()
    }

    /// Answers a 401 to a request that was sent with the header made `made` times.
    async fn authenticate(&self, made: u64) -> Result<(), RegistryError> {
        let mut header = self.header.lock().await;
        if header.0 != made {
            return Ok(());
        }
        let auth = match &self.credentials {
            Credentials::Bearer(_) => return Err(RegistryError::Unauthorized("the registry token was not accepted".to_owned())),
            Credentials::Basic(username, password) => RegistryAuth::Basic(username.clone(), password.clone()),
            Credentials::Anonymous => RegistryAuth::Anonymous,
        };
        let made_by_hand = match &self.credentials {
            Credentials::Basic(username, password) => Some((username.as_str(), password.as_str())),
            _ => None,
        };
        let token = self.token(&auth).await?;
        let value = match (token, made_by_hand) {
            (Some(token), _) => secret(&format!("Bearer {token}"))?,
            (None, Some((username, password))) => {
                use base64::Engine as _;
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
                secret(&format!("Basic {pair}"))?
            }
            (None, None) => return Err(RegistryError::Unauthorized("it wants credentials, and none were given".to_owned())),
        };
        *header = (made + 1, Some(value));
        Ok(())
    }

    /// Asks the registry's token service; nothing where it wants basic authentication.
    ///
    /// The client is made anew each time: it keeps credentials by host, and another pull may have others.
    async fn token(&self, auth: &RegistryAuth) -> Result<Option<String>, RegistryError> {
        let config = ClientConfig {
            protocol: if self.plain { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT),
            read_timeout: Some(READ),
            ..ClientConfig::default()
        };
        let client = TokenClient::try_from(config).map_err(|error| RegistryError::Unavailable(chain(&error)))?;
        let reference = TokenReference::with_tag(self.host.clone(), self.repository.clone(), "latest".to_owned());
        use oci_distribution::errors::OciDistributionError as Error;
        match client.auth(&reference, auth, RegistryOperation::Pull).await {
            Ok(token) => Ok(token),
            Err(Error::AuthenticationFailure(reason)) => {
                let reason: String = reason.chars().filter(|letter| !letter.is_control()).take(300).collect();
                Err(RegistryError::Unauthorized(format!("its token service said {reason:?}")))
            }
            Err(error) => Err(RegistryError::Unavailable(chain(&error))),
        }
    }
}

impl Body {
    fn new(response: Response, what: String, limit: u64) -> Result<Body, RegistryError> {
        match response.content_length() {
            Some(length) if length > limit => Err(RegistryError::TooLarge { what: format!("{what} of {length} bytes"), limit }),
            _ => Ok(Body { response, what, left: limit, limit }),
        }
    }

    /// The next piece; nothing at the end. More than the limit is an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let chunk = match self.response.chunk().await {
            Ok(chunk) => chunk,
            Err(error) => {
                return Err(RegistryError::Unavailable(format!("{}: {}", self.what, chain(&error.without_url()))));
            }
        };
        if let Some(chunk) = &chunk {
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            self.left = self
                .left
                .checked_sub(length)
                .ok_or_else(|| RegistryError::TooLarge { what: self.what.clone(), limit: self.limit })?;
        }
        Ok(chunk)
    }

    async fn all(mut self) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn secret(value: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| RegistryError::Unauthorized("the credentials have characters that HTTP cannot carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The status, and the registry's own words where it has some.
async fn explain(mut response: Response) -> String {
    let status = response.status();
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > ERROR_BYTES {
            return format!("HTTP {status}");
        }
    }
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Reason>,
    }
    #[derive(serde::Deserialize)]
    struct Reason {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Envelope>(&bytes) {
        Ok(envelope) => {
            let words: Vec<String> = envelope.errors.iter().map(|reason| format!("{} {}", reason.code, reason.message)).collect();
            format!("HTTP {status}: {}", words.join("; ").trim())
        }
        Err(_) => format!("HTTP {status}"),
    }
}
