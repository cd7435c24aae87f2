//! HTTPS or HTTP, for a registry of which nobody has said it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use reqwest::StatusCode;

use super::client::Clients;
use super::{RegistryError, chain, without_port};

/// What is said and what was found out.
pub(super) struct Schemes {
    insecure: Vec<String>,
    /// Loopback hosts whose scheme has been tried.
    plain: Mutex<HashMap<String, bool>>,
}

impl Schemes {
    pub(super) fn new(insecure: &[String]) -> Schemes {
        Schemes { insecure: insecure.to_vec(), plain: Mutex::default() }
    }

    /// Whether a host speaks plain HTTP.
    pub(super) async fn is_plain(&self, host: &str, clients: &Clients) -> Result<bool, RegistryError> {
        if self.insecure.iter().any(|listed| listed == host || listed == without_port(host)) {
            return Ok(true);
        }
        if !is_loopback(host) {
            return Ok(false);
        }
        if let Some(plain) = self.plain.lock().unwrap_or_else(PoisonError::into_inner).get(host) {
            return Ok(*plain);
        }
        // As Docker does: HTTPS first, and HTTP where nothing speaks TLS.
        let client = |secure| clients.get(secure, false).map_err(RegistryError::Config);
        let secure = client(true)?.get(format!("https://{host}/v2/")).send().await;
        let plain = match secure {
            Ok(_) => false,
            Err(over_tls) => match client(false)?.get(format!("http://{host}/v2/")).send().await {
                // What a TLS server says to HTTP.
                Ok(answer) if answer.status() == StatusCode::BAD_REQUEST => return Ok(false),
                Ok(_) => true,
                // It speaks TLS, and the request will say what is wrong with it.
                Err(_) if super::tls::remedy(&over_tls).is_some() => return Ok(false),
                Err(error) => {
                    let (over_tls, error) = (chain(&over_tls.without_url()), chain(&error.without_url()));
                    return Err(RegistryError::Unavailable(format!("HTTPS: {over_tls}; HTTP: {error}")));
                }
            },
        };
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), plain);
        Ok(plain)
    }

    /// After a failure: what listens on a loopback port may be another program next time.
    pub(super) fn forget(&self, host: &str) {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
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
}
