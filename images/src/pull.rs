//! A pull: reference, manifest, verdict, blobs, layers, code, record, in this order. Nothing is visible before the last step.
//!
//! What the steps before it made is taken away again where one fails because of the image. Where the registry, the
//! network or the caller ended it, it is kept for the next try, bounded: unfinished blobs by
//! [`crate::Config::keep_partials`], finished layers and code by [`crate::Config::keep_layers`].

mod compile;
mod download;
mod failure;
mod feed;
mod fetch;
mod receive;
mod space;
mod watch;

use std::sync::Arc;

use tracing::Instrument as _;

use crate::api::Inner;
use crate::auth::Auth;
use crate::digest::Digest;
use crate::error::{DiskError, PullError};
use crate::image::Image;
use crate::manifest::{self, Document, Manifest};
use crate::policy::Subject;
use crate::progress::{self, Tracker};
use crate::reference::Reference;
use crate::registry::Session;
use crate::store::{Item, NewImage, Pins};
pub(crate) use download::{LayerError, LayerSource};
use failure::registry_error;
pub(crate) use watch::Trackers;

/// One pull under way.
struct Pull {
    inner: Arc<Inner>,
    reference: Reference,
    session: Arc<Session>,
    pins: Arc<Pins>,
    tracker: Arc<Tracker>,
}

/// A platform's manifest, as it came.
struct Resolved {
    manifest: Manifest,
    digest: Digest,
    /// What the tag named or the user asked for: an index's digest where there is one.
    named: Digest,
    blobs: Vec<(Digest, Vec<u8>)>,
}

/// Pulls an image. The registry is always asked, also for what is here: whether these credentials may have the image is
/// its decision, and the kubelet relies on the answer.
pub(crate) async fn pull(
    inner: Arc<Inner>,
    reference: Reference,
    auth: Option<Auth>,
    tracker: Arc<Tracker>,
) -> Result<Arc<Image>, PullError> {
    let text = reference.to_string();
    inner.rules.admit(&reference).inspect_err(|error| tracing::warn!(%error, "pull denied"))?;
    let credentials = match auth.unwrap_or_default().read() {
        Ok(credentials) => credentials,
        Err(detail) => {
            return Err(PullError::Unauthorized { reference: text, registry: reference.registry().to_owned(), detail });
        }
    };
    tracing::info!(reference = text, with_credentials = credentials.are_given(), "pulling");
    let begun = std::time::Instant::now();
    let session = inner.registries.session(&reference, credentials).await;
    let session = session.map_err(|error| registry_error(&text, reference.registry(), error))?;
    let pins = Arc::new(Pins::for_pull(&inner.store));
    let pull = Pull { pins, inner, reference, session: Arc::new(session), tracker };
    let result = watch::logged(&text, &pull.tracker, pull.run()).await;
    let result = pull.settle(result).await.map_err(PullError::bounded);
    let store = pull.inner.store.clone();
    let _swept = tokio::task::spawn_blocking(move || store.sweep()).await;
    let image = result.inspect_err(|error| {
        if matches!(error, PullError::RegistryUnavailable { .. }) {
            pull.inner.registries.forget(pull.session.host());
        }
        tracing::warn!(%error, "pull failed");
    })?;
    tracing::info!(reference = text, id = image.id, size = image.size, ms = begun.elapsed().as_millis() as u64, "pulled");
    Ok(image)
}

impl Pull {
    async fn run(&self) -> Result<Arc<Image>, PullError> {
        let resolved = self.resolve().instrument(tracing::debug_span!("resolve")).await?;
        // What was named, not the variant that was chosen of it: that is what is signed.
        if let Some((_, document)) = resolved.blobs.first() {
            let subject = Subject { reference: &self.reference, digest: &resolved.named, document };
            self.inner.rules.verify(&subject).instrument(tracing::debug_span!("verify")).await?;
        }
        for (digest, _) in &resolved.blobs {
            self.pins.add(Item::Blob(digest.clone()));
        }
        let mut blobs = resolved.blobs.clone();
        let (store, pins, id) = (self.inner.store.clone(), self.pins.clone(), resolved.digest.clone());
        let complete = tokio::task::spawn_blocking(move || store.complete(id.as_str(), &pins)).await;
        let here = complete.ok().flatten();
        let is_new = here.is_none();
        let mut image = match here {
            Some(image) => {
                resolved.manifest.layers.iter().for_each(|blob| self.tracker.add(progress::here(blob)));
                image
            }
            None => self.fetch(&resolved, &mut blobs).instrument(tracing::debug_span!("fetch")).await?,
        };
        self.compile(&image, is_new).instrument(tracing::debug_span!("compile")).await?;
        image.repo_digests = vec![format!("{}@{}", self.reference.name(), resolved.named)];
        let (store, pins, tag) = (self.inner.store.clone(), self.pins.clone(), self.reference.tagged());
        let registered = tokio::task::spawn_blocking(move || store.register(NewImage { image, blobs, tag }, pins)).await;
        let registered = registered
            .unwrap_or_else(|error| Err(DiskError::new("register", &self.inner.config.root, std::io::Error::other(error))));
        registered.map_err(|io| PullError::Io { reference: self.text(), io })
    }

    /// Follows the reference to one platform's manifest.
    async fn resolve(&self) -> Result<Resolved, PullError> {
        let limit = self.inner.config.limits.manifest_bytes;
        let (bytes, named) = self.session.manifest(self.reference.target(), limit).await.map_err(|error| self.failed(error))?;
        let document = manifest::parse(&bytes).map_err(|reason| self.invalid(reason))?;
        let mut blobs = vec![(named.clone(), bytes)];
        let manifest = match document {
            Document::Manifest(manifest) => {
                return Ok(Resolved { manifest, digest: named.clone(), named, blobs });
            }
            Document::Index(entries) => manifest::choose(&entries, manifest::our_architecture())
                .map_err(|reason| PullError::Unsupported { reference: self.text(), reason })?
                .clone(),
        };
        let found = self.session.manifest(manifest.digest.as_str(), limit).await;
        let (bytes, digest) = found.map_err(|error| self.failed(error))?;
        match manifest::parse(&bytes).map_err(|reason| self.invalid(reason))? {
            Document::Manifest(manifest) => {
                blobs.push((digest.clone(), bytes));
                Ok(Resolved { manifest, digest, named, blobs })
            }
            Document::Index(_) => Err(self.invalid("its index leads to another index".to_owned())),
        }
    }
}
