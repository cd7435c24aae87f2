//! Pod sandboxes: a network namespace, a place in the cgroups and a record. A sandbox has no process of its own.
//!
//! [`metadata`] is what never changes, [`state`] what does; [`Sandbox`] joins both and writes each change to its record before it
//! can be seen. [`files`] are the three files that the pods share (`/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`),
//! [`network`] the namespace and what CNI puts into it, [`ports`] the host ports that CNI does not map, [`ipc`] the IPC namespace
//! of pods that need one, [`userns`] the user namespace of those that ask for one, [`sysctls`] the kernel settings of a pod, [`release`] stops a sandbox and
//! gives back what a sandbox holds.

pub mod egress;
pub mod files;
pub mod init;
#[allow(unsafe_code, reason = "a namespace is made with unshare(2), which rustix marks unsafe")]
pub mod ipc;
pub mod metadata;
pub mod network;
pub mod ports;
pub mod release;
pub mod state;
pub mod sysctls;
#[allow(unsafe_code, reason = "forks a child that unshares, as a process of several threads cannot itself")]
pub mod userns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::events::Turn;
use crate::metrics::{Counted, State, metrics};
use crate::stats;
use crate::store::{ContainerId, IdError, Record, SandboxId, Store, StoreError, Table};

pub use metadata::{
    DnsConfig, IdRange, NamespaceMode, Namespaces, PodResources, PortMapping, PortProtocol, SandboxConfig, SandboxMetadata,
    SandboxName, UserNamespace,
};
pub use state::{Held, PodAddresses, SandboxEvent, SandboxState, SandboxStatus, TransitionError};

/// A sandbox as it lies on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// What never changes.
    pub metadata: SandboxMetadata,
    /// What does.
    pub status: SandboxStatus,
}

impl Record for SandboxRecord {
    const TABLE: Table = Table::Sandboxes;

    fn id(&self) -> &str {
        self.metadata.id.as_str()
    }
}

/// Why a sandbox did not change.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The event does not fit the state.
    #[error(transparent)]
    Transition(#[from] TransitionError),
    /// The record cannot be written.
    #[error("cannot record the sandbox")]
    Store(#[from] StoreError),
}

/// A sandbox in memory.
#[derive(Debug)]
pub struct Sandbox {
    metadata: SandboxMetadata,
    status: watch::Sender<SandboxStatus>,
    containers: Mutex<BTreeSet<ContainerId>>,
    store: Arc<Store>,
    /// Held shared while a container is created or started in it, and alone while the sandbox is stopped or removed.
    pub operation: tokio::sync::RwLock<()>,
    /// What is measured of it.
    pub stats: stats::pod::OfSandbox,
    /// Held while its first process is looked for and started.
    init: tokio::sync::Mutex<()>,
    /// Its place among the sandboxes of its state.
    counted: Mutex<Counted>,
}

fn count(state: SandboxState) -> Counted {
    Counted::new(&metrics().sandboxes.get_or_create(&State { state: state.name() }))
}

impl Sandbox {
    /// A sandbox whose record is on disk already.
    pub fn restore(record: SandboxRecord, store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self {
            counted: Mutex::new(count(record.status.state)),
            metadata: record.metadata,
            status: watch::Sender::new(record.status),
            containers: Mutex::default(),
            store,
            operation: tokio::sync::RwLock::new(()),
            stats: stats::pod::OfSandbox::default(),
            init: tokio::sync::Mutex::new(()),
        })
    }

    /// A new sandbox, in state Creating; its record is on disk when this returns.
    pub fn create(metadata: SandboxMetadata, held: Held, store: Arc<Store>) -> Result<Arc<Self>, StoreError> {
        let record = SandboxRecord { metadata, status: SandboxStatus::creating(held) };
        store.put(&record)?;
        Ok(Self::restore(record, store))
    }

    /// What never changes.
    pub fn metadata(&self) -> &SandboxMetadata {
        &self.metadata
    }

    /// Its id.
    pub fn id(&self) -> &SandboxId {
        &self.metadata.id
    }

    /// What it is now.
    pub fn status(&self) -> SandboxStatus {
        self.status.borrow().clone()
    }

    /// Its state now.
    pub fn state(&self) -> SandboxState {
        self.status.borrow().state
    }

    /// What it may use now: as it was created, or as it was updated last.
    pub fn resources(&self) -> PodResources {
        self.status.borrow().resources.clone().map_or_else(|| self.metadata.config.resources.clone(), |changed| *changed)
    }

    /// Applies an event: to the record first, then to memory. What clients can see is changed by
    /// [`Runtime::change_sandbox`](crate::state::Runtime::change_sandbox), which tells them.
    pub fn apply(&self, _turn: &Turn<'_>, event: SandboxEvent) -> Result<(), ChangeError> {
        let mut outcome = Ok(());
        self.status.send_if_modified(|status| match self.after(status, event) {
            Ok(next) => {
                let changed = *status != next;
                if status.state != next.state {
                    *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = count(next.state);
                }
                *status = next;
                changed
            }
            Err(error) => {
                outcome = Err(error);
                false
            }
        });
        if self.state() != SandboxState::Ready {
            self.stats.close();
        }
        outcome
    }

    fn after(&self, status: &SandboxStatus, event: SandboxEvent) -> Result<SandboxStatus, ChangeError> {
        let next = status.after(event)?;
        if next != *status {
            self.store.put(&SandboxRecord { metadata: self.metadata.clone(), status: next.clone() })?;
        }
        Ok(next)
    }

    /// Ids of its containers, in any state.
    pub fn containers(&self) -> Vec<ContainerId> {
        self.lock().iter().cloned().collect()
    }

    /// A container has been made in it.
    pub fn add_container(&self, id: ContainerId) {
        self.lock().insert(id);
    }

    /// A container of it is gone.
    pub fn forget_container(&self, id: &ContainerId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<ContainerId>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All sandboxes.
#[derive(Debug, Default)]
pub struct Sandboxes {
    index: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    by_id: BTreeMap<SandboxId, Arc<Sandbox>>,
    /// A pod whose sandbox has gone gets another one, with an attempt of its own.
    by_pod: HashMap<String, Vec<Arc<Sandbox>>>,
}

impl Sandboxes {
    /// Adds a sandbox.
    pub fn insert(&self, sandbox: Arc<Sandbox>) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if index.by_id.insert(sandbox.id().clone(), Arc::clone(&sandbox)).is_none() {
            index.by_pod.entry(sandbox.metadata.config.name.pod()).or_default().push(sandbox);
        }
    }

    /// Takes a sandbox away.
    pub fn remove(&self, id: &SandboxId) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let Some(gone) = index.by_id.remove(id) else { return };
        let pod = gone.metadata.config.name.pod();
        if let Some(others) = index.by_pod.get_mut(&pod) {
            others.retain(|sandbox| sandbox.id() != id);
            if others.is_empty() {
                index.by_pod.remove(&pod);
            }
        }
    }

    /// The latest sandbox of the pod of this one, which may be gone itself.
    pub fn latest_of_pod(&self, sandbox: &Sandbox) -> Option<Arc<Sandbox>> {
        let index = self.read();
        let of_pod = index.by_pod.get(&sandbox.metadata.config.name.pod())?;
        of_pod.iter().max_by_key(|sandbox| sandbox.metadata.created_at).cloned()
    }

    /// The sandbox of exactly this id.
    pub fn get(&self, id: &str) -> Option<Arc<Sandbox>> {
        self.read().by_id.get(id).cloned()
    }

    /// The sandbox of this id or of a unique beginning of it.
    pub fn find(&self, id: &str) -> Result<Arc<Sandbox>, IdError> {
        crate::store::ids::find(&self.read().by_id, id)
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Sandbox>> {
        self.read().by_id.values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}
