//! What the rest of the program sees: one handle, cheap to clone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;

use crate::auth::Auth;
use crate::code::{Code, CodeFlights, Compiler};
use crate::config::Config;
use crate::counts::Counts;
use crate::digest::Digest;
use crate::error::{CodeError, DiskError, LookupError, NotFound, OpenError, PullError, RemoveError};
use crate::files::{self, Found};
use crate::flight::Flights;
use crate::foreign::Foreign;
use crate::image::Image;
use crate::inspect::{self, ImageDetails};
use crate::layer::Layer;
use crate::policy::Rules;
use crate::progress::{Counters, Progress, Tracker};
use crate::pull::{self, LayerError, Trackers};
use crate::reference::Reference;
use crate::registry::Registries;
pub use crate::store::Hold;
use crate::store::{self, Item, Pins, Store};
use crate::view::{self, ImageView};

/// The images of this node.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
    /// Apart from `inner`, which pulls under way own.
    pulls: Arc<PullFlights>,
    /// Of the pulls under way.
    trackers: Arc<Trackers>,
}

/// Credentials are part of the key: who may not pull an image does not join the pull of one who may.
pub(crate) type PullKey = (Reference, Option<Auth>);

type PullFlights = Flights<PullKey, Result<Arc<Image>, PullError>>;

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) store: Arc<Store>,
    pub(crate) registries: Registries,
    pub(crate) rules: Rules,
    pub(crate) downloads: Semaphore,
    pub(crate) layer_flights: Flights<String, Result<Arc<Layer>, LayerError>>,
    pub(crate) code_flights: CodeFlights,
    pub(crate) foreign: Foreign,
    pub(crate) counters: Counters,
}

/// What the store takes on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The store's root, a path on this node.
    pub mountpoint: PathBuf,
    /// Bytes in allocated blocks.
    pub used_bytes: u64,
    /// Inodes: files, directories, links, whiteouts.
    pub inodes: u64,
}

impl Images {
    /// Opens the store, or makes it. What interrupted work left is removed; a broken record is set aside, named in the
    /// log and by [`Images::set_aside`], and no error.
    pub async fn open(config: Config, compiler: Arc<dyn Compiler>) -> Result<Images, OpenError> {
        let rules = Rules::new(&config.policy, &config.pinned).map_err(OpenError::Config)?;
        let registries = Registries::new(&config.insecure_registries, &config.certs_dirs, config.read_timeout);
        let registries = registries.map_err(OpenError::Client)?;
        let for_store = config.clone();
        let opened = tokio::task::spawn_blocking(move || store::open(&for_store, compiler)).await;
        let store = opened.map_err(|error| DiskError::new("open", &config.root, std::io::Error::other(error)))??;
        let downloads = Semaphore::new(config.max_parallel_downloads.max(1));
        let inner = Inner {
            store: Arc::new(store),
            registries,
            rules,
            downloads,
            config,
            layer_flights: Flights::new(),
            code_flights: Flights::new(),
            foreign: Foreign::default(),
            counters: Counters::default(),
        };
        Ok(Images { inner: Arc::new(inner), pulls: Arc::new(Flights::new()), trackers: Arc::default() })
    }

    /// Pulls an image; it is compiled before it is visible. Pulling again asks the registry and brings what is new.
    ///
    /// Calls for one reference with equal credentials share one pull. A call that is dropped ends its pull unless
    /// another waits for it.
    pub async fn pull(&self, reference: &str, auth: Option<Auth>) -> Result<Arc<Image>, PullError> {
        self.pull_with(reference, auth, None).await
    }

    /// Pulls as [`Images::pull`] does, and shows how far it is in `progress`, also where the pull is shared.
    pub async fn pull_with(
        &self,
        reference: &str,
        auth: Option<Auth>,
        progress: Option<&Progress>,
    ) -> Result<Arc<Image>, PullError> {
        let reference = Reference::parse(reference)
            .map_err(|error| PullError::InvalidReference { reference: error.text, reason: error.reason })?;
        let key = (reference.clone(), auth.clone());
        let inner = self.inner.clone();
        let (work, _joined) = self.pulls.join(key.clone(), || {
            let tracker = Arc::new(Tracker::default());
            self.trackers.add(key.clone(), &tracker);
            pull::pull(inner, reference, auth, tracker).boxed()
        });
        if let (Some(progress), Some(tracker)) = (progress, self.trackers.get(&key)) {
            progress.follow(tracker);
        }
        work.await
    }

    /// By id (`sha256:…`, its digits, or at least 12 of these where no other begins so) or by reference; a name
    /// without a tag means `latest`.
    pub fn get(&self, reference_or_id: &str) -> Option<Arc<Image>> {
        self.inner.store.get(reference_or_id)
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.inner.store.list()
    }

    /// What there is to know about an image, with small reads of the disk.
    pub async fn inspect(&self, image: &Arc<Image>) -> ImageDetails {
        inspect::inspect(&self.inner, image.clone()).await
    }

    /// Whether one of the image's names is among those that the configuration pins, for the CRI's `Image.pinned`:
    /// the kubelet's garbage collection leaves such an image alone. [`Images::remove`] does not, as containerd's.
    pub fn is_pinned(&self, image: &Image) -> bool {
        self.inner.rules.is_pinned(image)
    }

    /// Removes an image with all its tags. One that is not here is no error. What a [`Hold`] keeps goes with the last.
    pub async fn remove(&self, reference_or_id: &str) -> Result<(), RemoveError> {
        let (store, text) = (self.inner.store.clone(), reference_or_id.to_owned());
        match tokio::task::spawn_blocking(move || store.remove(&text)).await {
            Ok(result) => result,
            Err(error) => {
                let io = DiskError::new("remove", &self.inner.config.root, std::io::Error::other(error));
                Err(RemoveError::Io { reference: reference_or_id.to_owned(), io })
            }
        }
    }

    /// Keeps an image's layers and code until the guard is dropped. An image that was removed while it was held can be
    /// held again after a restart, until [`Images::collect_removed`] is called.
    pub fn hold(&self, image_id: &str) -> Result<Hold, NotFound> {
        self.inner.store.hold(image_id)
    }

    /// To be called once after a start, when every container holds its image again: removes what earlier removals left
    /// for containers that are no more.
    pub async fn collect_removed(&self) {
        let store = self.inner.store.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || store.collect_removed()).await {
            tracing::error!(%error, "removed images stay until the store is opened again");
        }
    }

    /// What the store takes on the disk, unpacked layers and compiled code included.
    pub async fn usage(&self) -> Result<Usage, std::io::Error> {
        let store = self.inner.store.clone();
        let measured = move || {
            store.sweep();
            store.usage()
        };
        let (used_bytes, inodes) = tokio::task::spawn_blocking(measured).await.map_err(std::io::Error::other)??;
        Ok(Usage { mountpoint: self.inner.config.root.clone(), used_bytes, inodes })
    }

    /// What has been counted since the store was opened.
    pub fn counts(&self) -> &Counts {
        &self.inner.store.counts
    }

    /// Records that were broken when the store was opened, under the names that they have now.
    pub fn set_aside(&self) -> &[PathBuf] {
        &self.inner.store.set_aside
    }

    /// The layers as overlayfs takes them, top first; never empty.
    pub fn lower_dirs(&self, image: &Image) -> Vec<PathBuf> {
        self.inner.store.lower_dirs(image)
    }

    /// Code for a wasm file of an image that is here: from the cache, or compiled now if it is missing, damaged, or of
    /// another engine. The first use after a start reads the code once to check it.
    pub async fn code(&self, wasm_digest: &str) -> Result<Code, CodeError> {
        let unknown = || CodeError::Unknown { digest: wasm_digest.to_owned() };
        let digest = Digest::parse(wasm_digest).map_err(|_| unknown())?;
        let (image, path) = self.inner.store.with_wasm(wasm_digest).ok_or_else(unknown)?;
        let host = self.inner.host_path(&image, &path).ok_or_else(unknown)?;
        let pins = Pins::new(&self.inner.store);
        pins.add(Item::Code(digest.clone()));
        let code = self.inner.store.code.get(&self.inner.code_flights, digest, host, Arc::new(pins)).await;
        if let Err(CodeError::Damaged { .. }) = code {
            self.inner.store.suspect(wasm_digest);
        }
        code
    }

    /// What is known of a wasm file's code, where it has been compiled.
    pub fn code_report(&self, wasm_digest: &str) -> Option<crate::CodeReport> {
        self.inner.store.code.report(&Digest::parse(wasm_digest).ok()?)
    }

    /// What a path in the image leads to, links followed inside the image. Blocks for some small reads.
    pub fn lookup(&self, image: &Image, path: &Path) -> Result<Found, LookupError> {
        let located = files::locate(&self.lower_dirs(image), path)?;
        let kind = files::kind(&located, || image.wasm_at(&located.path).map(|file| file.digest.clone()))?;
        Ok(Found { path: located.path, kind })
    }

    /// A directory or a file of the image that is to be mounted read-only: what the CRI calls `image_sub_path`,
    /// relative, without `..`; empty for all of the image. Links are followed inside the image. Blocks for small reads.
    pub fn subpath(&self, image: &Image, sub_path: &str) -> Result<ImageView, LookupError> {
        view::view(&self.lower_dirs(image), image, sub_path)
    }

    /// The first bytes of a regular file, at most `length`: the first line of a script. Blocks.
    pub fn read_start(&self, image: &Image, path: &Path, length: u64) -> Result<Vec<u8>, LookupError> {
        files::read_start(&files::locate(&self.lower_dirs(image), path)?, path, length)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The content of a regular file of at most `cap` bytes: `/etc/passwd` and the like. Blocks.
    pub fn read_file(&self, image: &Image, path: &Path, cap: u64) -> Result<Vec<u8>, LookupError> {
        files::read(&files::locate(&self.lower_dirs(image), path)?, path, cap)
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Images").field(&self.inner.config.root).finish()
    }
}

impl Inner {
    /// Where a file of an image lies on this node.
    pub(crate) fn host_path(&self, image: &Image, path: &Path) -> Option<PathBuf> {
        files::locate(&self.store.lower_dirs(image), path).ok().map(|located| located.host)
    }
}
