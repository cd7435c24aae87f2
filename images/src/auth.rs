//! Credentials for a pull, as a CRI client gives them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The CRI's `AuthConfig`, field by field; empty means not given.
///
/// Two pulls share their work only if these are equal, so that nobody gets an image by another's credentials.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    /// Name for basic authentication and for the token endpoint.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Base64 of `username:password`, used where `username` is empty.
    pub auth: String,
    /// The registry that these are for; they are sent to no other. Empty: to the one that the reference names.
    pub server_address: String,
    /// An OAuth2 refresh token. Not served yet: the pull says so.
    pub identity_token: String,
    /// A bearer token, sent as it is.
    pub registry_token: String,
}

impl fmt::Debug for Auth {
    /// Never shows a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Auth")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// What is sent to one registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Anonymous,
    Basic(String, String),
    Bearer(String),
}

impl Auth {
    /// What of this is for `registry`; the error is a clause about credentials that cannot be used.
    pub(crate) fn for_registry(&self, registry: &str) -> Result<Credentials, String> {
        if !self.server_address.is_empty() && host_of(&self.server_address) != host_of(registry) {
            return Ok(Credentials::Anonymous);
        }
        if !self.registry_token.is_empty() {
            return Ok(Credentials::Bearer(self.registry_token.clone()));
        }
        if !self.username.is_empty() {
            return Ok(Credentials::Basic(self.username.clone(), self.password.clone()));
        }
        if !self.auth.is_empty() {
            return decode(&self.auth);
        }
        if !self.identity_token.is_empty() {
            return Err("identity tokens are not supported; give a user name and a password".to_owned());
        }
        Ok(Credentials::Anonymous)
    }
}

fn decode(auth: &str) -> Result<Credentials, String> {
    let wrong = || "the field auth of the credentials is not the base64 of user:password".to_owned();
    let bytes = STANDARD.decode(auth.trim()).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    // Docker pads the pair with NUL bytes in some versions; containerd strips them too.
    let (username, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(wrong)?;
    Ok(Credentials::Basic(username.to_owned(), password.to_owned()))
}

/// The host (and port) of an address such as `https://index.docker.io/v1/`; Docker's own names are one.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Result<Credentials, String> {
        Ok(Credentials::Basic(user.to_owned(), password.to_owned()))
    }

    #[test]
    fn each_way_of_giving_credentials_is_read() {
        let named = Auth { username: "u".into(), password: "p".into(), ..Auth::default() };
        assert!(named.for_registry("r") == basic("u", "p"));
        let packed = Auth { auth: "dTpwOnE=".into(), ..Auth::default() };
        assert!(packed.for_registry("r") == basic("u", "p:q"));
        let token = Auth { registry_token: "t".into(), ..Auth::default() };
        assert!(token.for_registry("r") == Ok(Credentials::Bearer("t".into())));
        assert!(Auth::default().for_registry("r") == Ok(Credentials::Anonymous));
    }

    #[test]
    fn credentials_for_another_registry_are_not_sent() {
        let auth = Auth { username: "u".into(), server_address: "https://index.docker.io/v1/".into(), ..Auth::default() };
        assert!(auth.for_registry("evil.example") == Ok(Credentials::Anonymous));
        assert!(auth.for_registry("docker.io") == basic("u", ""));
    }

    #[test]
    fn credentials_that_cannot_be_used_are_an_error() {
        assert!(Auth { auth: "%".into(), ..Auth::default() }.for_registry("r").is_err());
        assert!(Auth { auth: "dXA=".into(), ..Auth::default() }.for_registry("r").is_err());
        assert!(Auth { identity_token: "x".into(), ..Auth::default() }.for_registry("r").is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let auth = Auth { password: "secret".into(), auth: "secret".into(), registry_token: "secret".into(), ..Auth::default() };
        assert!(!format!("{auth:?}").contains("secret"));
    }
}
