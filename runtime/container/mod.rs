//! Containers: one guest each, with its record, its root filesystem, its mounts and its limits.
//!
//! [`metadata`] is what never changes, [`state`] what does; [`Container`] joins both and writes each change to its record before
//! it can be seen. A container is composed once, when it is created: [`spec`] from request and image, with [`user`],
//! [`capabilities`], [`seccomp`], [`entrypoint`] and [`mounts`], with [`service`] where it answers HTTP requests; what it may use ([`resources`]) can be changed later. It is
//! started by [`launch`] over [`rootfs`] and [`bind`], ended by [`stop`], given back by [`release`].

pub mod bind;
pub mod capabilities;
pub mod devices;
pub mod entrypoint;
pub mod forbidden;
pub mod launch;
pub mod metadata;
pub mod mount_attributes;
pub mod mount_points;
pub mod mounts;
pub mod pty;
pub mod release;
pub mod resources;
pub mod rootfs;
pub mod seccomp;
pub mod service;
pub mod signals;
pub mod spec;
pub mod state;
pub mod stop;
pub mod tuning;
pub mod user;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::events::Turn;
use crate::metrics::{Counted, Metrics, State, metrics};
use crate::stats;
use crate::store::{ContainerId, IdError, Record, Store, StoreError, Table};

pub use metadata::{
    CapabilityRequest, ContainerConfig, ContainerMetadata, GuestUser, ImageFiles, ImageName, ImageVolume, MountPropagation,
    MountRequest, ProcessSpec, ResolvedMount, SeccompRequest, UserRequest,
};
pub use resources::Resources;
pub use state::{ContainerEvent, ContainerState, ContainerStatus, Exit, TransitionError};

/// A container as it lies on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// What never changes.
    pub metadata: ContainerMetadata,
    /// What does.
    pub status: ContainerStatus,
}

impl Record for ContainerRecord {
    const TABLE: Table = Table::Containers;

    fn id(&self) -> &str {
        self.metadata.id.as_str()
    }
}

/// Why a container did not change.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The event does not fit the state.
    #[error(transparent)]
    Transition(#[from] TransitionError),
    /// The record cannot be written.
    #[error("cannot record the container")]
    Store(#[from] StoreError),
}

/// Directory of a container's own files: `upper` and `work` of its root filesystem.
pub fn directory(root: &Path, id: &ContainerId) -> PathBuf {
    root.join("containers").join(id.as_str())
}

/// A container in memory.
#[derive(Debug)]
pub struct Container {
    metadata: ContainerMetadata,
    status: watch::Sender<ContainerStatus>,
    store: Arc<Store>,
    /// Keep the layers and code of its image, and of the images that it mounts, also when they are removed.
    images: Mutex<Vec<images::Hold>>,
    /// Held while the container is started or removed. StopContainer does not take it: it must get through a long grace period
    /// of another stop, and a removal must get through any.
    pub operation: tokio::sync::Mutex<()>,
    /// What is measured of it.
    pub stats: stats::OfContainer,
    /// Its place among the containers of its state.
    counted: Mutex<Counted>,
}

fn count(state: ContainerState) -> Counted {
    Counted::new(&metrics().containers.get_or_create(&State { state: state.name() }))
}

impl Container {
    /// A container whose record is on disk already.
    pub fn restore(record: ContainerRecord, images: Vec<images::Hold>, store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self {
            counted: Mutex::new(count(record.status.state)),
            metadata: record.metadata,
            status: watch::Sender::new(record.status),
            store,
            images: Mutex::new(images),
            operation: tokio::sync::Mutex::new(()),
            stats: stats::OfContainer::default(),
        })
    }

    /// A new container; its record is on disk when this returns.
    pub fn create(metadata: ContainerMetadata, images: Vec<images::Hold>, store: Arc<Store>) -> Result<Arc<Self>, StoreError> {
        let record = ContainerRecord { metadata, status: ContainerStatus::created() };
        store.put(&record)?;
        Ok(Self::restore(record, images, store))
    }

    /// Lets its images go, at its removal.
    pub fn let_go_of_images(&self) {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What never changes.
    pub fn metadata(&self) -> &ContainerMetadata {
        &self.metadata
    }

    /// Its id.
    pub fn id(&self) -> &ContainerId {
        &self.metadata.id
    }

    /// Where clients on this node write what its guest reads; `None`: it has no standard input.
    pub fn stdin_fifo(&self, state: &Path) -> Option<PathBuf> {
        self.metadata.config.stdin.then(|| state.join("containers").join(self.metadata.id.as_str()).join("stdin"))
    }

    /// What it is now.
    pub fn status(&self) -> ContainerStatus {
        self.status.borrow().clone()
    }

    /// Its state now.
    pub fn state(&self) -> ContainerState {
        self.status.borrow().state
    }

    /// Follows its status.
    pub fn watch(&self) -> watch::Receiver<ContainerStatus> {
        self.status.subscribe()
    }

    /// What it may use now: as it was created, or as it was updated last. `None`: nothing was ever said.
    pub fn resources(&self) -> Option<Resources> {
        self.status.borrow().resources.clone().or_else(|| self.metadata.config.resources.clone())
    }

    /// Applies an event: to the record first, then to memory. Returns whether anything changed. What clients can see is changed
    /// by [`Runtime::change_container`](crate::state::Runtime::change_container), which tells them.
    pub fn apply(&self, _turn: &Turn<'_>, event: ContainerEvent) -> Result<bool, ChangeError> {
        // A guest's end is true whether it can be recorded or not; its exit record stays until the container goes.
        let must = matches!(event, ContainerEvent::Ended(_));
        let mut outcome = Ok(());
        let changed = self.status.send_if_modified(|status| {
            let next = match status.after(event) {
                Ok(next) if next == *status => return false,
                Ok(next) => next,
                Err(error) => {
                    outcome = Err(error.into());
                    return false;
                }
            };
            let record = ContainerRecord { metadata: self.metadata.clone(), status: next };
            if let Err(error) = self.store.put(&record) {
                outcome = Err(error.into());
                if !must {
                    return false;
                }
            }
            self.count(status, &record.status);
            *status = record.status;
            true
        });
        if self.state() != ContainerState::Running {
            self.stats.close();
        }
        outcome.map(|()| changed)
    }
}

impl Container {
    fn count(&self, before: &ContainerStatus, after: &ContainerStatus) {
        if before.state == after.state {
            return;
        }
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = count(after.state);
        if after.state == ContainerState::Exited
            && let Some(exit) = &after.exit
        {
            metrics().guests_exited.get_or_create(&Metrics::reason(&exit.reason)).inc();
        }
    }
}

/// All containers by id.
#[derive(Debug, Default)]
pub struct Containers {
    by_id: RwLock<BTreeMap<ContainerId, Arc<Container>>>,
}

impl Containers {
    /// Adds a container.
    pub fn insert(&self, container: Arc<Container>) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(container.id().clone(), container);
    }

    /// Takes a container away.
    pub fn remove(&self, id: &ContainerId) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The container of exactly this id.
    pub fn get(&self, id: &str) -> Option<Arc<Container>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The container of this id or of a unique beginning of it.
    pub fn find(&self, id: &str) -> Result<Arc<Container>, IdError> {
        crate::store::ids::find(&self.by_id.read().unwrap_or_else(PoisonError::into_inner), id)
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
