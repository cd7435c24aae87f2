//! Scopes: which references a rule is about, written as in containers-policy.json(5).
//!
//! ```text
//! *                       every reference
//! *.example.com           every sub-domain of example.com, on any port; not example.com itself
//! ghcr.io                 a registry; with a port where references have one
//! ghcr.io/acme            a repository, and all below it
//! ghcr.io/acme/*          all below it, without itself
//! ghcr.io/acme/web:v1     a tag, ghcr.io/acme/web@sha256:… a digest: only where one is asked for, as in pins
//! ```
//!
//! Whole components match: `ghcr.io/acme` is not about `ghcr.io/acme-evil`. A deny list must not be got round by another
//! spelling of the same name, so hosts match without regard to case, the port 443 is the same as none, and
//! `docker.io/wasm` is also what it is short for, `docker.io/library/wasm`.

use crate::reference::Reference;

/// Port of a registry that is spoken to by HTTPS; naming it changes nothing.
const HTTPS: &str = ":443";

/// A scope that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    text: String,
    host: Host,
    path: Vec<String>,
    /// Not the repository `path` itself.
    below: bool,
    /// `:tag` or `@digest`.
    exact: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// The domain with its leading dot.
    Below(String),
    Is(String),
}

impl Scope {
    /// Reads a scope of a registry, a namespace or a repository; the error is a clause that says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Scope, String> {
        let scope = |host, path, below| Scope { text: text.to_owned(), host, path, below, exact: None };
        if text == "*" {
            return Ok(scope(Host::Any, Vec::new(), false));
        }
        if let Some(domain) = text.strip_prefix("*.") {
            if domain.contains(['/', ':', '@', '*']) {
                return Err(format!("{text:?} has more than a domain after *.; write *.example.com, or name the registry"));
            }
            sample(domain, "a").map_err(|_| format!("{text:?} names no domain after *."))?;
            return Ok(scope(Host::Below(format!(".{}", domain.to_ascii_lowercase())), Vec::new(), false));
        }
        let (rest, below) = text.strip_suffix("/*").map_or((text, false), |rest| (rest, true));
        if rest.contains('*') {
            return Err(format!("{text:?} has a * that is neither the whole, nor *. before a domain, nor /* at the end"));
        }
        let (registry, path) = rest.split_once('/').map_or((rest, None), |(registry, path)| (registry, Some(path)));
        if registry != "localhost" && !registry.contains(['.', ':']) {
            return Err(format!("{text:?} does not begin with a registry; write it in full, as in docker.io/library/wasm"));
        }
        let last = path.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        if last.contains([':', '@']) {
            return Err(format!("{text:?} has a tag or a digest; name the repository"));
        }
        let reference = sample(registry, path.unwrap_or("a")).map_err(|reason| format!("{text:?}: {reason}"))?;
        let path = path.unwrap_or_default().split('/').filter(|component| !component.is_empty());
        Ok(scope(Host::Is(canonical(reference.registry())), path.map(str::to_owned).collect(), below))
    }

    /// Reads a scope that may also be one image: a reference with a tag or a digest.
    pub(crate) fn parse_image(text: &str) -> Result<Scope, String> {
        let last = text.rsplit('/').next().unwrap_or_default();
        // `localhost:5000` alone is a registry; `wasm:v1` is not taken for an image, it could be a host with a port.
        let one = text.contains('@') || (text.contains('/') && last.contains(':'));
        if !one || text.contains('*') {
            return Scope::parse(text);
        }
        let reference = Reference::parse(text).map_err(|error| error.to_string())?;
        let mut scope = Scope::parse(&reference.name())?;
        scope.exact = match (reference.digest(), reference.tagged()) {
            (Some(digest), _) => Some(format!("@{digest}")),
            (None, Some(tagged)) => tagged.rsplit_once(':').map(|(_, tag)| format!(":{tag}")),
            (None, None) => None,
        };
        text.clone_into(&mut scope.text);
        Ok(scope)
    }

    /// As the operator wrote it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether both say the same, however they are spelled.
    pub(crate) fn same(&self, other: &Scope) -> bool {
        (&self.host, &self.path, self.below, &self.exact) == (&other.host, &other.path, other.below, &other.exact)
    }

    /// How closely the scope names this reference, larger is closer; nothing where it does not.
    pub(crate) fn matches(&self, reference: &Reference) -> Option<usize> {
        let host = canonical(reference.registry());
        // Sub-domains of a longer domain are closer; a host is closer than each domain, a path than each host.
        let by_host = match &self.host {
            Host::Any => 0,
            Host::Below(domain) => without_port(&host).ends_with(domain.as_str()).then_some(domain.len())?,
            Host::Is(name) => (*name == host).then_some(1 << 10)?,
        };
        let repository: Vec<&str> = reference.repository().split('/').collect();
        let starts = |path: &[String]| {
            let long_enough = repository.len() >= path.len() + usize::from(self.below);
            long_enough && path.iter().zip(&repository).all(|(one, other)| one == other)
        };
        let by_path = if starts(&self.path) {
            self.path.len()
        } else {
            let short = matches!(&self.host, Host::Is(host) if host == "docker.io") && self.path.len() == 1 && !self.below;
            let library = ["library".to_owned()].into_iter().chain(self.path.iter().cloned()).collect::<Vec<_>>();
            (short && starts(&library)).then_some(2)?
        };
        match &self.exact {
            Some(exact) if repository.len() != by_path || !is_exactly(reference, exact) => None,
            exact => Some(by_host + (by_path << 11) + usize::from(exact.is_some())),
        }
    }
}

fn is_exactly(reference: &Reference, exact: &str) -> bool {
    match exact.strip_prefix('@') {
        Some(digest) => reference.digest() == Some(digest),
        None => reference.tagged().is_some_and(|tagged| tagged.strip_prefix(&reference.name()) == Some(exact)),
    }
}

/// A reference to have its parts checked by the one grammar that there is.
fn sample(registry: &str, path: &str) -> Result<Reference, String> {
    Reference::parse(&format!("{registry}/{path}")).map_err(|error| error.reason)
}

fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(HTTPS).map(str::to_owned).unwrap_or(host);
    if host == "index.docker.io" { "docker.io".to_owned() } else { host }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !host.ends_with(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn matches(scope: &str, reference: &str) -> bool {
        Scope::parse_image(scope).unwrap().matches(&Reference::parse(reference).unwrap()).is_some()
    }

    #[test]
    fn scopes_match_whole_components_of_normalised_references() {
        for (scope, reference) in [
            ("*", "wasm"),
            ("docker.io", "wasm"),
            ("docker.io/library/wasm", "wasm"),
            ("docker.io/wasm", "wasm:v1"),
            ("index.docker.io/library", "docker.io/library/wasm"),
            ("ghcr.io", "ghcr.io/acme/web"),
            ("ghcr.io/acme", "ghcr.io/acme/web"),
            ("ghcr.io/acme/*", "ghcr.io/acme/web/x"),
            ("ghcr.io/acme", "GHCR.IO:443/acme/web"),
            ("GHCR.io", "ghcr.io/acme/web"),
            ("*.example.com", "a.b.example.com:5000/x"),
            ("*.EXAMPLE.com", "a.Example.Com/x"),
            ("localhost:5000/a", "localhost:5000/a"),
            ("[::1]:5000", "[::1]:5000/a"),
        ] {
            assert!(matches(scope, reference), "{scope} {reference}");
        }
        for (scope, reference) in [
            ("ghcr.io/acme", "ghcr.io/acme-evil/web"),
            ("ghcr.io/acme/web", "ghcr.io/acme"),
            ("ghcr.io/acme/*", "ghcr.io/acme"),
            ("ghcr.io", "ghcr.io.example.com/acme"),
            ("ghcr.io", "ghcr.io:5000/acme"),
            ("*.example.com", "example.com/x"),
            ("*.example.com", "badexample.com/x"),
            ("docker.io/wasm", "some/wasm"),
            ("ghcr.io/wasm", "ghcr.io/library/wasm"),
        ] {
            assert!(!matches(scope, reference), "{scope} {reference}");
        }
    }

    #[test]
    fn an_image_is_named_by_its_tag_or_its_digest() {
        let digest = format!("ghcr.io/a/b@{D}");
        assert!(matches(&digest, &digest) && !matches(&digest, "ghcr.io/a/b"));
        assert!(Scope::parse_image("wasm:v1").is_err());
        assert!(matches("docker.io/wasm:v1", "wasm:v1") && !matches("docker.io/wasm:v1", "wasm:v2"));
        assert!(!matches("ghcr.io/a:v1", "ghcr.io/a/b:v1"));
        assert!(Scope::parse(&digest).is_err() && Scope::parse("ghcr.io/a:v1").is_err());
    }

    #[test]
    fn the_longer_scope_is_the_closer_one() {
        let scopes = ["*", "*.io", "*.k8s.io", "registry.k8s.io", "registry.k8s.io/a", "registry.k8s.io/a/b"];
        let reference = Reference::parse("registry.k8s.io/a/b").unwrap();
        let ranks: Vec<usize> = scopes.iter().map(|scope| Scope::parse(scope).unwrap().matches(&reference).unwrap()).collect();
        assert!(ranks.is_sorted_by(|one, other| one < other), "{ranks:?}");
    }

    #[test]
    fn what_is_no_scope_is_refused_with_a_reason() {
        for text in [
            "",
            "*.",
            "*.a/b",
            "**",
            "*x",
            "ghcr.io/*/x",
            "ghcr.io/a*",
            "acme",
            "library/wasm",
            "ghcr.io/A",
            "ghcr.io//a",
            "https://ghcr.io",
            "ghcr.io/a:v1",
            "gh cr.io",
            "ghcr.io/",
            "host:99999",
            "*.*.com",
            "*.a:5000",
            "ghcr.io:v1x",
        ] {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
    }
}
