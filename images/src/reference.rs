//! Image references, normalised as Docker does: `wasm` is `docker.io/library/wasm:latest`.
//!
//! The grammar is that of the distribution project's `reference` package. A reference with a tag and a digest is
//! its digest: the tag is kept only for messages.

use std::fmt;

use crate::digest::{Digest, is_hex};

/// Longest repository name, host included (the distribution project's limit).
const MAX_NAME: usize = 255;

/// A normalised reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference {text:?}: {reason}")]
pub struct ReferenceError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Reference {
    /// Reads and normalises a reference; without tag and digest the tag is `latest`.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        parse(text).map_err(|reason| ReferenceError { text: text.to_owned(), reason })
    }

    /// The registry's name, with its port if it has one: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path inside the registry: `library/wasm`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Registry and repository: `docker.io/library/wasm`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `name:tag`; nothing where a digest decides.
    pub fn tagged(&self) -> Option<String> {
        match (&self.digest, &self.tag) {
            (None, Some(tag)) => Some(format!("{}:{tag}", self.name())),
            _ => None,
        }
    }

    /// The digest, if the reference has one: `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_ref().map(Digest::as_str)
    }

    /// What is asked of the registry's `manifests/` endpoint.
    pub(crate) fn target(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
        None => (text, None),
    };
    // A colon after the last slash begins a tag; one before it begins a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !tag.ends_with(']') => (name, Some(tag)),
        _ => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if name.len() == 64 && is_hex(name) {
        return Err("64 hexadecimal digits are an image id, not a name".to_owned());
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (first, path),
        _ => ("docker.io", name),
    };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    check_registry(registry)?;
    check_path(path)?;
    let repository = match registry {
        "docker.io" if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(format!("the name is longer than {MAX_NAME} characters"));
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// Docker's rule for the first component: a dot, a colon, a capital letter or `localhost` makes it a host.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), String> {
    let wrong = || format!("{registry:?} is no registry host");
    let (host, port) = if registry.starts_with('[') {
        let (host, rest) = registry.split_once(']').ok_or_else(wrong)?;
        let address = host.trim_start_matches('[');
        address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
        ("v6", if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(wrong)?) })
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        }
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !host.split('.').all(label) {
        return Err(wrong());
    }
    match port {
        // Digits alone: the number's own reader takes a sign.
        Some(port) if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err() => Err(wrong()),
        _ => Ok(()),
    }
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if good { Ok(()) } else { Err(format!("{tag:?} is no tag")) }
}

fn check_path(path: &str) -> Result<(), String> {
    for component in path.split('/') {
        check_component(component)?;
    }
    Ok(())
}

/// Runs of lower-case letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn check_component(component: &str) -> Result<(), String> {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = component.bytes().next().is_some_and(alphanumeric) && component.bytes().last().is_some_and(alphanumeric);
    let separators = component
        .split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit())
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'));
    if edges && separators {
        return Ok(());
    }
    if component.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("{component:?} has capital letters; repository names are lower-case"));
    }
    Err(format!("{component:?} is no part of a repository name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_as_docker_does() {
        let table = [
            ("wasm", "docker.io/library/wasm:latest"),
            ("wasm:1.2", "docker.io/library/wasm:1.2"),
            ("some/wasm", "docker.io/some/wasm:latest"),
            ("index.docker.io/wasm", "docker.io/library/wasm:latest"),
            ("localhost/wasm", "localhost/wasm:latest"),
            ("localhost:5000/a/b/c:V1", "localhost:5000/a/b/c:V1"),
            ("127.0.0.1:5000/wasm", "127.0.0.1:5000/wasm:latest"),
            ("[::1]:5000/wasm:x", "[::1]:5000/wasm:x"),
            ("[::1]/wasm", "[::1]/wasm:latest"),
            ("ghcr.io/o/a__b.c--d", "ghcr.io/o/a__b.c--d:latest"),
        ];
        for (given, normal) in table {
            let reference = Reference::parse(given).unwrap();
            assert_eq!(reference.to_string(), normal);
            assert_eq!(reference.tagged().as_deref(), Some(normal));
            assert_eq!(Reference::parse(normal).unwrap(), reference);
        }
    }

    #[test]
    fn a_digest_decides_over_a_tag() {
        let plain = Reference::parse(&format!("wasm@{D}")).unwrap();
        assert_eq!((plain.tagged(), plain.target(), plain.name().as_str()), (None, D, "docker.io/library/wasm"));
        let both = Reference::parse(&format!("localhost:5000/wasm:v1@{D}")).unwrap();
        assert_eq!((both.tagged(), both.target()), (None, D));
        assert_eq!(both.to_string(), format!("localhost:5000/wasm:v1@{D}"));
    }

    #[test]
    fn what_is_no_reference_is_refused_with_a_reason() {
        let long = "a".repeat(300);
        let hex = "a".repeat(64);
        for text in [
            "",
            "Wasm",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "host:99999/a",
            "host:/a",
            "host:+80/a",
            "http://host/a",
            "[::1/a",
            "[x]/a",
            "exa mple.com/a",
            "../a",
            "ghcr.io/../a",
            &long,
            &hex,
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert!(!error.reason.is_empty(), "{text}");
        }
    }
}
