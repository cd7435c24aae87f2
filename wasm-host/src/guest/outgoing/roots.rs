//! The authorities that a guest trusts: those that its container names or has, else the public ones, built in.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;

/// Where images have the list of their distribution: Debian and Alpine, Fedora, openSUSE, BSD. The first that is there.
const LISTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What the container's environment names, as OpenSSL reads it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// `SSL_CERT_FILE`.
    file: Option<PathBuf>,
    /// `SSL_CERT_DIR`.
    directory: Option<PathBuf>,
}

impl Named {
    pub(crate) fn of(env: &[String]) -> Self {
        let named = |name| {
            let value = env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
            value.filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        Named { file: named("SSL_CERT_FILE"), directory: named("SSL_CERT_DIR") }
    }
}

/// Reads them. The process is in the container's root, and paths are the container's own. A certificate that cannot be read is
/// skipped, as other libraries do; where none is left no server is trusted.
pub(crate) fn load(named: &Named) -> RootCertStore {
    if named.file.is_some() || named.directory.is_some() {
        return read(named.file.as_deref(), named.directory.as_deref());
    }
    match LISTS.iter().map(Path::new).find(|list| list.exists()) {
        Some(list) => read(Some(list), None),
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    }
}

fn read(file: Option<&Path>, directory: Option<&Path>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_certs_from_paths(file, directory).certs);
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_file_or_a_directory() {
        let env = |entries: &[&str]| Named::of(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>());
        assert_eq!(env(&["SSL_CERT_FILES=/a", "SSL_CERT_FILE="]), Named::default());
        let both = Named { file: Some("/a".into()), directory: Some("/b".into()) };
        assert_eq!(env(&["SSL_CERT_DIR=/b", "SSL_CERT_FILE=/a"]), both);
    }

    #[test]
    fn a_file_that_names_nobody_trusts_nobody() {
        let named = Named { file: Some("/nonexistent".into()), directory: None };
        assert!(load(&named).is_empty());
    }
}
