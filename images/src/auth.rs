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
    /// The host that these are for; they are sent to no other. Empty: to each host that an operator's `hosts.toml` names
    /// for the reference's registry, mirrors included, when it asks for credentials; that is what containerd does.
    pub server_address: String,
    /// An OAuth2 refresh token, with which the registry's token service is asked by POST.
    pub identity_token: String,
    /// A bearer token, sent as it is. Since it is sent unasked, it goes to no mirror unless `server_address` names it.
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

/// Credentials as they were given, read.
#[derive(Clone)]
pub(crate) struct Credentials {
    who: Who,
    /// The host that they are for.
    only: Option<String>,
}

/// What is sent to one host.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Anonymous,
    Basic(String, String),
    /// A refresh token.
    Identity(String),
    Bearer(String),
}

impl Auth {
    /// Reads the fields, the first that is given in this order: registry token, user name, identity token, `auth`. The
    /// error is a clause about credentials that cannot be used.
    pub(crate) fn read(&self) -> Result<Credentials, String> {
        // Some write a name beside an identity token, without a password.
        let named = !self.username.is_empty() && (!self.password.is_empty() || self.identity_token.is_empty());
        let who = if !self.registry_token.is_empty() {
            Who::Bearer(self.registry_token.clone())
        } else if named {
            Who::Basic(self.username.clone(), self.password.clone())
        } else if !self.identity_token.is_empty() {
            Who::Identity(self.identity_token.clone())
        } else if !self.auth.is_empty() {
            decode(&self.auth)?
        } else {
            Who::Anonymous
        };
        let only = (!self.server_address.is_empty()).then(|| host_of(&self.server_address).to_owned());
        Ok(Credentials { who, only })
    }
}

impl Credentials {
    pub(crate) fn are_given(&self) -> bool {
        self.who != Who::Anonymous
    }

    /// What of these is for `host`, which is asked for images of `registry`.
    pub(crate) fn for_host(&self, host: &str, registry: &str) -> Who {
        let theirs = match (&self.only, &self.who) {
            (Some(only), _) => only == host_of(host),
            (None, Who::Bearer(_)) => host_of(host) == host_of(registry),
            (None, _) => true,
        };
        if theirs { self.who.clone() } else { Who::Anonymous }
    }
}

fn decode(auth: &str) -> Result<Who, String> {
    let wrong = || "the field auth of the credentials is not the base64 of user:password".to_owned();
    let bytes = STANDARD.decode(auth.trim()).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    // Docker pads the pair with NUL bytes in some versions; containerd strips them too.
    let (username, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(wrong)?;
    Ok(Who::Basic(username.to_owned(), password.to_owned()))
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

    fn who(auth: &Auth, host: &str) -> Who {
        auth.read().unwrap().for_host(host, "r")
    }

    fn basic(user: &str, password: &str) -> Who {
        Who::Basic(user.to_owned(), password.to_owned())
    }

    #[test]
    fn each_way_of_giving_credentials_is_read() {
        let named = Auth { username: "u".into(), password: "p".into(), ..Auth::default() };
        assert!(who(&named, "r") == basic("u", "p"));
        let packed = Auth { auth: "dTpwOnE=".into(), ..Auth::default() };
        assert!(who(&packed, "r") == basic("u", "p:q"));
        let token = Auth { registry_token: "t".into(), ..Auth::default() };
        assert!(who(&token, "r") == Who::Bearer("t".into()));
        let identity = Auth { identity_token: "i".into(), username: "<token>".into(), ..Auth::default() };
        assert!(who(&identity, "r") == Who::Identity("i".into()));
        assert!(who(&Auth::default(), "r") == Who::Anonymous);
    }

    #[test]
    fn credentials_for_another_host_are_not_sent() {
        let auth = Auth { username: "u".into(), server_address: "https://index.docker.io/v1/".into(), ..Auth::default() };
        assert!(who(&auth, "evil.example") == Who::Anonymous);
        assert!(who(&auth, "registry-1.docker.io") == basic("u", ""));
        let token = Auth { registry_token: "t".into(), ..Auth::default() };
        assert!(who(&token, "mirror.example") == Who::Anonymous);
        let without_address = Auth { username: "u".into(), ..Auth::default() };
        assert!(who(&without_address, "mirror.example") == basic("u", ""));
    }

    #[test]
    fn credentials_that_cannot_be_used_are_an_error() {
        assert!(Auth { auth: "%".into(), ..Auth::default() }.read().is_err());
        assert!(Auth { auth: "dXA=".into(), ..Auth::default() }.read().is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let auth = Auth { password: "secret".into(), auth: "secret".into(), registry_token: "secret".into(), ..Auth::default() };
        assert!(!format!("{auth:?}").contains("secret"));
    }
}
