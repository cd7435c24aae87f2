//! `hosts.toml`, as containerd reads it (its `docs/hosts.md` and `core/remotes/docker/config/hosts.go`): mirrors in the
//! order of the file, then the server. Keys that it does not know are passed over, as containerd does.
//!
//! One thing differs: a file that is broken is an error here, not a line in a log. containerd goes on without it, and so
//! asks a registry that the operator wanted to be asked through a mirror.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// One place to ask, with what was said about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostConfig {
    /// Nothing: the registry that the reference names.
    pub(super) server: Option<Server>,
    pub(super) can: Capabilities,
    pub(super) ca: Vec<PathBuf>,
    /// Certificates with their keys; a key that is not named is in the certificate's file.
    pub(super) client: Vec<(PathBuf, Option<PathBuf>)>,
    pub(super) skip_verify: bool,
    pub(super) header: Vec<(HeaderName, HeaderValue)>,
    pub(super) dial_timeout: Option<Duration>,
}

/// Where a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) secure: bool,
    /// Host and port, as they were written.
    pub(super) host: String,
    /// Without a slash at its end: `/v2`.
    pub(super) path: String,
}

/// What a host may be asked. Pushing is nothing that a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) pull: bool,
    pub(super) resolve: bool,
}

impl Default for Capabilities {
    fn default() -> Capabilities {
        Capabilities { pull: true, resolve: true }
    }
}

/// What is wrong with a file: the byte where, and a clause.
struct Wrong {
    at: usize,
    reason: String,
}

impl Wrong {
    fn new(value: &Spanned<DeValue<'_>>, reason: impl Into<String>) -> Wrong {
        Wrong { at: value.span().start, reason: reason.into() }
    }
}

/// Reads a file's text; relative paths in it begin at `directory`. The error begins with the line.
pub(crate) fn parse(text: &str, directory: &Path) -> Result<Vec<HostConfig>, String> {
    read(text, directory).map_err(|wrong| {
        let line = text.as_bytes().iter().take(wrong.at).filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line}: {}", wrong.reason)
    })
}

fn read(text: &str, directory: &Path) -> Result<Vec<HostConfig>, Wrong> {
    let table = DeTable::parse(text)
        .map_err(|error| Wrong { at: error.span().map_or(0, |span| span.start), reason: error.message().to_owned() })?;
    let table = table.get_ref();
    let mut hosts = Vec::new();
    if let Some(value) = get(table, "host") {
        let DeValue::Table(mirrors) = value.get_ref() else {
            return Err(Wrong::new(value, "host is to be a table: [host.\"https://…\"]"));
        };
        // The tables come sorted by name. Their places in the file are the order in which mirrors are asked.
        let mut mirrors: Vec<_> = mirrors.iter().collect();
        mirrors.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in mirrors {
            let DeValue::Table(table) = value.get_ref() else {
                return Err(Wrong::new(value, format!("host.{:?} is to be a table", key.get_ref())));
            };
            hosts.push(host(key.get_ref(), key.span().start, table, directory)?);
        }
    }
    let last = match get(table, "server") {
        Some(value) => host(string(value, "server")?, value.span().start, table, directory)?,
        None => host("", 0, table, directory)?,
    };
    hosts.push(last);
    Ok(hosts)
}

fn host(name: &str, at: usize, table: &DeTable<'_>, directory: &Path) -> Result<HostConfig, Wrong> {
    let override_path = get(table, "override_path").map(|value| boolean(value, "override_path")).transpose()?;
    let server = match name {
        "" => None,
        name => Some(server(name, override_path.unwrap_or(false)).map_err(|reason| Wrong { at, reason })?),
    };
    let mut host = HostConfig { server, ..HostConfig::default() };
    if let Some(value) = get(table, "capabilities") {
        // For the reference's own registry containerd puts all of them, whatever is listed.
        let listed = capabilities(value)?;
        host.can = if host.server.is_some() { listed } else { host.can };
    }
    if let Some(value) = get(table, "ca") {
        host.ca = strings(value, "ca")?.into_iter().map(|path| directory.join(path)).collect();
    }
    if let Some(value) = get(table, "client") {
        host.client = pairs(value, directory)?;
    }
    if let Some(value) = get(table, "skip_verify") {
        host.skip_verify = boolean(value, "skip_verify")?;
    }
    if let Some(value) = get(table, "header") {
        host.header = headers(value)?;
    }
    if let Some(value) = get(table, "dial_timeout") {
        host.dial_timeout = match string(value, "dial_timeout")? {
            "" => None,
            text => Some(duration(text).ok_or_else(|| {
                Wrong::new(value, format!("dial_timeout is {text:?}; it is to be a time above 0 such as \"500ms\" or \"1m30s\""))
            })?),
        };
    }
    Ok(host)
}

/// An address of a host: `https://mirror:5000/path`; without a scheme it is HTTPS.
fn server(name: &str, override_path: bool) -> Result<Server, String> {
    let wrong = || format!("{name:?} is no address of a registry; write https://HOST, http://HOST:PORT or https://HOST/PATH");
    let text = if name.contains("://") { name.to_owned() } else { format!("https://{name}") };
    let url = Url::parse(&text).map_err(|_| wrong())?;
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    let (_, rest) = text.split_once("://").ok_or_else(wrong)?;
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default().to_owned();
    // The URL's reader forgives more slashes and tabs than this; where the two differ, nobody knows which host is meant.
    let again = Url::parse(&format!("{}://{host}/", url.scheme())).map_err(|_| wrong())?;
    if (again.host(), again.port()) != (url.host(), url.port()) {
        return Err(wrong());
    }
    // Docker Hub's API does not live under its name; the example in containerd's own manual means this.
    let host = if host == "docker.io" { "registry-1.docker.io".to_owned() } else { host };
    let parts: Vec<&str> = url.path().split('/').filter(|part| !part.is_empty()).collect();
    let mut path: String = parts.iter().map(|part| format!("/{part}")).collect();
    if !override_path && !path.ends_with("/v2") {
        path.push_str("/v2");
    }
    Ok(Server { secure: url.scheme() == "https", host, path })
}

fn capabilities(value: &Spanned<DeValue<'_>>) -> Result<Capabilities, Wrong> {
    let listed = strings(value, "capabilities")?;
    if listed.is_empty() {
        return Ok(Capabilities::default());
    }
    let mut can = Capabilities { pull: false, resolve: false };
    for capability in listed {
        match capability.to_ascii_lowercase().as_str() {
            "pull" => can.pull = true,
            "resolve" => can.resolve = true,
            "push" | "referrers" => {}
            _ => {
                let reason = format!("unknown capability {capability:?}; there are pull, resolve, push and referrers");
                return Err(Wrong::new(value, reason));
            }
        }
    }
    Ok(can)
}

/// `"file"`, `["file", …]`, or `[["certificate", "key"], …]`.
fn pairs(value: &Spanned<DeValue<'_>>, directory: &Path) -> Result<Vec<(PathBuf, Option<PathBuf>)>, Wrong> {
    let wrong = |value: &Spanned<DeValue<'_>>| {
        let reason = "client is to be a file, a list of files, or a list of pairs [certificate, key]";
        Wrong::new(value, reason)
    };
    let values = match value.get_ref() {
        DeValue::String(file) => return Ok(vec![(directory.join(file.as_ref()), None)]),
        DeValue::Array(values) => values,
        _ => return Err(wrong(value)),
    };
    let pair = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(file) => Ok((directory.join(file.as_ref()), None)),
        DeValue::Array(_) => match strings(value, "client")?.as_slice() {
            [certificate, ""] => Ok((directory.join(certificate), None)),
            [certificate, key] => Ok((directory.join(certificate), Some(directory.join(key)))),
            _ => Err(wrong(value)),
        },
        _ => Err(wrong(value)),
    };
    values.iter().map(pair).collect()
}

fn headers(value: &Spanned<DeValue<'_>>) -> Result<Vec<(HeaderName, HeaderValue)>, Wrong> {
    let DeValue::Table(table) = value.get_ref() else {
        return Err(Wrong::new(value, "header is to be a table of names and values"));
    };
    let mut headers = Vec::new();
    for (key, value) in table {
        let name: &str = key.get_ref();
        let parsed = HeaderName::try_from(name).map_err(|_| Wrong::new(value, format!("{name:?} is no name of a header")))?;
        for text in strings(value, name)? {
            let mut text = HeaderValue::from_str(text)
                .map_err(|_| Wrong::new(value, format!("header {name:?} has characters that HTTP cannot carry")))?;
            // Tokens stand here.
            text.set_sensitive(true);
            headers.push((parsed.clone(), text));
        }
    }
    Ok(headers)
}

fn get<'t, 'i>(table: &'t DeTable<'i>, name: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
    table.get(&Spanned::new(0..0, DeString::Borrowed(name)))
}

fn string<'t>(value: &'t Spanned<DeValue<'_>>, name: &str) -> Result<&'t str, Wrong> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        _ => Err(Wrong::new(value, format!("{name} is to be a string"))),
    }
}

fn boolean(value: &Spanned<DeValue<'_>>, name: &str) -> Result<bool, Wrong> {
    match value.get_ref() {
        DeValue::Boolean(boolean) => Ok(*boolean),
        _ => Err(Wrong::new(value, format!("{name} is to be true or false"))),
    }
}

fn strings<'t>(value: &'t Spanned<DeValue<'_>>, name: &str) -> Result<Vec<&'t str>, Wrong> {
    match value.get_ref() {
        DeValue::String(text) => Ok(vec![text]),
        DeValue::Array(values) => values.iter().map(|value| string(value, &format!("each of {name}"))).collect(),
        _ => Err(Wrong::new(value, format!("{name} is to be a string or a list of strings"))),
    }
}

/// Go's notation of a time: numbers with units, one after the other.
fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at_checked(number)?;
        let unit = after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    // A longer wait for a connection than a day is a mistake.
    (seconds > 0.0 && seconds <= 86_400.0).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests;
