//! Which images this node takes: allow and deny lists, programs that judge signatures, and which images are pinned.
//!
//! The lists are about names and are asked before a byte goes to the network. A verifier is about content: it is asked
//! when the digest is known and before anything that the manifest names is fetched, at every pull, also of what is here
//! already. No verdict outlives its pull. Whatever keeps a verifier from giving one refuses the pull.

mod scope;
mod verifier;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::error::PullError;
use crate::image::Image;
use crate::reference::Reference;
use scope::Scope;
pub(crate) use verifier::Subject;

/// Verifiers at once, over all pulls. Each waits for the network most of its time; 4 keep a node that starts with many
/// pods from running a hundred of them.
const VERIFIERS_AT_ONCE: usize = 4;

/// What an operator lets in. Scopes are `registry`, `registry/namespace`, `registry/namespace/repository`,
/// `*.example.com` for all sub-domains, or `*`; references are normalised before they are matched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Scopes that may be pulled from. Empty: all.
    pub allow: Vec<String>,
    /// Scopes that may not, whatever `allow` says.
    pub deny: Vec<String>,
    /// Programs that must agree. Of those whose scope matches, the closest one is asked.
    pub verifiers: Vec<Verifier>,
}

/// A program that judges an image by its reference and digest, called as containerd calls its image verifiers:
/// `program args… -name REFERENCE -digest DIGEST -stdin-media-type application/vnd.oci.descriptor.v1+json`, with the
/// descriptor as JSON on standard input. Exit code 0 lets the image in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    /// Which references it judges; one verifier for each scope.
    pub scope: String,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Arguments before ours.
    pub args: Vec<String>,
    /// After this it is killed and the pull refused. 30 s: a signature check asks a registry and perhaps a log.
    pub timeout: Duration,
}

impl Verifier {
    /// With the default timeout and without arguments.
    pub fn new(scope: impl Into<String>, program: impl Into<PathBuf>) -> Verifier {
        Verifier { scope: scope.into(), program: program.into(), args: Vec::new(), timeout: Duration::from_secs(30) }
    }
}

impl Policy {
    /// Whether the policy can be used; the error names the key and says what is wrong with its value.
    pub fn check(&self) -> Result<(), String> {
        Rules::new(self, &[]).map(drop)
    }
}

/// A policy and pins, read.
#[derive(Debug)]
pub(crate) struct Rules {
    allow: Vec<Scope>,
    deny: Vec<Scope>,
    verifiers: Vec<(Scope, Verifier)>,
    pinned: Vec<Scope>,
    turns: Semaphore,
}

impl Rules {
    pub(crate) fn new(policy: &Policy, pinned: &[String]) -> Result<Rules, String> {
        let read = |key: &str, texts: &[String], parse: fn(&str) -> Result<Scope, String>| {
            let scopes = texts.iter().map(|text| parse(text).map_err(|reason| format!("{key}: {reason}")));
            scopes.collect::<Result<Vec<Scope>, String>>()
        };
        let mut verifiers: Vec<(Scope, Verifier)> = Vec::new();
        for verifier in &policy.verifiers {
            let wrong = |reason: String| format!("trust.verifiers: {reason}");
            let scope = Scope::parse(&verifier.scope).map_err(wrong)?;
            if !verifier.program.is_absolute() {
                return Err(wrong(format!("program {:?} is no absolute path", verifier.program)));
            }
            if verifier.timeout.is_zero() {
                return Err(wrong(format!("the timeout of {:?} is 0", verifier.program)));
            }
            if verifiers.iter().any(|(other, _)| scope.same(other)) {
                return Err(wrong(format!("two verifiers have the scope {:?}", verifier.scope)));
            }
            verifiers.push((scope, verifier.clone()));
        }
        Ok(Rules {
            allow: read("trust.allow", &policy.allow, Scope::parse)?,
            deny: read("trust.deny", &policy.deny, Scope::parse)?,
            verifiers,
            pinned: read("images.pinned", pinned, Scope::parse_image)?,
            turns: Semaphore::new(VERIFIERS_AT_ONCE),
        })
    }

    /// Whether the lists let a reference in.
    pub(crate) fn admit(&self, reference: &Reference) -> Result<(), PullError> {
        let denied = |reason: String| Err(PullError::Denied { reference: reference.to_string(), reason });
        if let Some(rule) = closest(self.deny.iter().map(|scope| (scope, scope)), reference) {
            return denied(format!("{:?} in trust.deny forbids it", rule.text()));
        }
        if self.allow.is_empty() || closest(self.allow.iter().map(|scope| (scope, scope)), reference).is_some() {
            return Ok(());
        }
        denied("no entry of trust.allow names it".to_owned())
    }

    /// Asks the verifier that is responsible, if there is one.
    pub(crate) async fn verify(&self, subject: &Subject<'_>) -> Result<(), PullError> {
        let of_scope = self.verifiers.iter().map(|(scope, verifier)| (scope, verifier));
        let Some(verifier) = closest(of_scope, subject.reference) else { return Ok(()) };
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        verifier::ask(verifier, subject).await
    }

    /// Whether one of the image's names is pinned.
    pub(crate) fn is_pinned(&self, image: &Image) -> bool {
        let names = image.repo_tags.iter().chain(&image.repo_digests);
        let references: Vec<Reference> = names.filter_map(|name| Reference::parse(name).ok()).collect();
        self.pinned.iter().any(|scope| references.iter().any(|reference| scope.matches(reference).is_some()))
    }
}

/// Of what goes with the scopes that match, that of the closest one.
fn closest<'a, T>(scopes: impl Iterator<Item = (&'a Scope, &'a T)>, reference: &Reference) -> Option<&'a T> {
    let matching = scopes.filter_map(|(scope, value)| Some((scope.matches(reference)?, value)));
    matching.max_by_key(|(rank, _)| *rank).map(|(_, value)| value)
}
