//! The directories where an operator says how a registry is reached, as containerd's `config_path`: each may hold
//! `HOST_PORT_`, `HOST:PORT` or `HOST`, and `_default`, with a `hosts.toml` or with certificates as Docker lays them.
//!
//! They are read at each pull, so that an edit needs no restart. What is read blocks, and is some kB.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::hosts::{self, HostConfig};
use super::tls::TlsSettings;

/// Bytes of one file that are read: a bundle of all public authorities has some 200 kB.
const LONGEST: u64 = 4 << 20;
const FILE: &str = "hosts.toml";

/// A host with its certificates read.
pub(super) struct Loaded {
    pub(super) host: HostConfig,
    pub(super) tls: TlsSettings,
}

/// What is configured for a registry: the hosts to ask in order, the last being the server. Nothing where no directory
/// is for it. An error names the file and what to do.
pub(super) fn load(directories: &[PathBuf], registry: &str) -> Result<Option<Vec<Loaded>>, String> {
    for directory in directories {
        for name in names(registry) {
            let found = directory.join(name);
            match std::fs::metadata(&found) {
                Ok(_) => return read(&found).map(Some),
                Err(error) if missing(&error) => {}
                Err(error) => return Err(format!("cannot read {}: {error}", found.display())),
            }
        }
    }
    Ok(None)
}

fn missing(error: &std::io::Error) -> bool {
    // A file where a directory should be holds nothing for anybody.
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// In containerd's order. A registry's name has no slash and no component `..`; the reference's grammar sees to that.
fn names(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    let host = super::without_port(registry);
    if let Some(port) = registry.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
        names.push(format!("{host}_{port}_"));
    }
    names.extend([registry.to_owned(), "_default".to_owned()]);
    names
}

fn read(directory: &Path) -> Result<Vec<Loaded>, String> {
    let path = directory.join(FILE);
    let text = match bytes(&path) {
        Ok(text) => text,
        Err(error) if missing(&error) => Vec::new(),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let hosts = if text.is_empty() {
        vec![docker(directory).map_err(|error| format!("cannot read {}: {error}", directory.display()))?]
    } else {
        let broken = |reason| format!("{} {reason}; mend the file, or take it away to go without it", path.display());
        let text = String::from_utf8(text).map_err(|_| broken("is not UTF-8".to_owned()))?;
        hosts::parse(&text, directory).map_err(broken)?
    };
    hosts.into_iter().map(|host| Ok(Loaded { tls: certificates(&host)?, host })).collect()
}

/// Docker's layout: `*.crt` are authorities, `*.cert` client certificates with `*.key` of the same name.
fn docker(directory: &Path) -> std::io::Result<HostConfig> {
    let mut host = HostConfig::default();
    let entries = match std::fs::read_dir(directory) {
        Err(error) if missing(&error) => return Ok(host),
        entries => entries?,
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => host.ca.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                let key = key.is_file().then_some(key);
                host.client.push((path, key));
            }
            _ => {}
        }
    }
    Ok(host)
}

fn certificates(host: &HostConfig) -> Result<TlsSettings, String> {
    let mut settings = TlsSettings { skip_verify: host.skip_verify, dial_timeout: host.dial_timeout, ..TlsSettings::default() };
    for path in &host.ca {
        settings.ca.extend(chain(path, "an authority's certificate")?);
    }
    for (path, key_path) in &host.client {
        let chain = chain(path, "a client certificate")?;
        let key_path = key_path.as_ref().unwrap_or(path);
        let pem = bytes(key_path).map_err(|error| format!("cannot read {}: {error}", key_path.display()))?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| format!("{} holds no private key in PEM, without a password", key_path.display()))?;
        settings.client.push((chain, key.secret_der().to_vec(), key_path.clone()));
    }
    Ok(settings)
}

fn chain(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = bytes(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{} is to hold {what} in PEM, and does not", path.display())),
    }
}

fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(std::io::Error::other(format!("it has more than {LONGEST} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_looked_for_as_containerd_does() {
        assert_eq!(names("r.io:5000"), ["r.io_5000_", "r.io:5000", "_default"]);
        assert_eq!(names("r.io"), ["r.io", "_default"]);
        assert_eq!(names("[::1]:5000"), ["[::1]_5000_", "[::1]:5000", "_default"]);
    }

    #[test]
    fn the_first_directory_that_has_one_for_the_host_wins_and_its_default_before_the_next_ones_host() {
        let both = tempfile::tempdir().unwrap();
        let (first, second) = (both.path().join("1"), both.path().join("2"));
        let put = |path: PathBuf, server: &str| {
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(FILE), format!("server = 'http://{server}'")).unwrap();
        };
        put(second.join("r:1"), "second");
        let server = |registry: &str| {
            let loaded = load(&[both.path().join("none"), first.clone(), second.clone()], registry).unwrap()?;
            Some(loaded[0].host.server.as_ref().unwrap().host.clone())
        };
        assert_eq!(server("r:1").as_deref(), Some("second"));
        assert_eq!(server("r"), None);
        put(first.join("_default"), "default");
        assert_eq!(server("r:1").as_deref(), Some("default"));
        put(first.join("r:1"), "colon");
        assert_eq!(server("r:1").as_deref(), Some("colon"));
        put(first.join("r_1_"), "underscores");
        assert_eq!(server("r:1").as_deref(), Some("underscores"));
        assert_eq!(server("other").as_deref(), Some("default"));
    }

    #[test]
    fn a_file_that_is_named_and_not_there_or_no_certificate_is_an_error_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let host = directory.path().join("r");
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join(FILE), "ca = 'ca.pem'").unwrap();
        let error = || load(&[directory.path().to_owned()], "r").err().unwrap();
        assert!(error().contains("r/ca.pem: No such file"), "{}", error());
        std::fs::write(host.join("ca.pem"), "no certificate").unwrap();
        assert!(error().contains("r/ca.pem is to hold"), "{}", error());
        std::fs::write(host.join(FILE), [0xff, 0xfe]).unwrap();
        assert!(error().contains("not UTF-8"), "{}", error());
        std::fs::write(host.join(FILE), "\nserver = 1").unwrap();
        assert!(error().contains("hosts.toml line 2: ") && error().contains("mend the file"), "{}", error());
    }
}
