//! What containers and pods use: read from the kernel's counters when somebody asks, never in between.
//!
//! | | source |
//! |---|---|
//! | processors, memory, swap, tasks, stalls | the control group, v1 or v2 ([`group`]) |
//! | processors at present | two samples of those who asked ([`rate`]) |
//! | the writable layer | a walk that is at most ten seconds old ([`layer`]) |
//! | the network | `/proc/net/dev` of the pod's namespace ([`pod`]) |
//!
//! The files that every call reads stay open ([`kept`]): for 300 groups with three files each that takes 1 ms in the place of 5.
//! They belong to the container or sandbox and are closed with its end. Everything here blocks for microseconds and is called on
//! a thread for blocking work; [`containers`] and [`sandboxes`] see to that.

pub mod group;
#[cfg(test)]
mod group_tests;
mod kept;
pub mod layer;
pub mod parse;
pub mod pod;
mod rate;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cgroup::Version;
use crate::container::{self, Container, ContainerState};
use crate::sandbox::Sandbox;
use crate::state::{Lost, Runtime};
use group::{GroupUsage, Meter};
use kept::Budget;
use layer::{Layer, LayerUsage};
use pod::PodUsage;

/// What all measurements share.
#[derive(Debug)]
pub struct Stats {
    budget: Arc<Budget>,
    /// Layers are walked by one thread at a time.
    walking: AtomicBool,
}

impl Default for Stats {
    fn default() -> Self {
        Self { budget: Budget::of_process(), walking: AtomicBool::new(false) }
    }
}

/// What is measured of one container; part of it.
#[derive(Debug, Default)]
pub struct OfContainer {
    meter: Mutex<Option<Meter>>,
    layer: Layer,
}

impl OfContainer {
    /// Closes what is open. For a container that no longer runs.
    pub fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Meter>> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerUsage {
    /// What its group counts; nothing while it does not run.
    pub group: GroupUsage,
    /// What it has written; absent for a large layer that is measured for the first time.
    pub layer: Option<LayerUsage>,
}

/// A container with what it uses.
pub type Measured = (Arc<Container>, ContainerUsage);

/// Measures containers in whatever state they are.
///
/// # Errors
/// The daemon is ending.
pub async fn containers(runtime: &Arc<Runtime>, containers: Vec<Arc<Container>>) -> Result<Vec<Measured>, Lost> {
    blocking(runtime, move |runtime| {
        let mut buffer = Vec::new();
        let measure = |container: Arc<Container>| {
            let usage = measure(runtime, &container, &mut buffer);
            (container, usage)
        };
        let measured: Vec<_> = containers.into_iter().map(measure).collect();
        refresh_layers(runtime, measured.iter().map(|(container, _)| container));
        measured
    })
    .await
}

/// Measures those of the containers that run. One that ends meanwhile is left out.
///
/// # Errors
/// The daemon is ending.
pub async fn running_containers(runtime: &Arc<Runtime>, mut asked: Vec<Arc<Container>>) -> Result<Vec<Measured>, Lost> {
    asked.retain(|container| container.state() == ContainerState::Running);
    let mut measured = containers(runtime, asked).await?;
    measured.retain(|(container, usage)| is_there(runtime, container, usage));
    Ok(measured)
}

/// Measures sandboxes with their running containers.
///
/// # Errors
/// The daemon is ending.
pub async fn sandboxes(runtime: &Arc<Runtime>, sandboxes: Vec<Arc<Sandbox>>) -> Result<Vec<(Arc<Sandbox>, PodUsage)>, Lost> {
    blocking(runtime, move |runtime| {
        let mut buffer = Vec::new();
        let measure = |sandbox: Arc<Sandbox>| {
            let usage = pod::measure(runtime, &sandbox, &mut buffer);
            (sandbox, usage)
        };
        let measured: Vec<_> = sandboxes.into_iter().map(measure).collect();
        refresh_layers(runtime, measured.iter().flat_map(|(_, usage)| &usage.containers).map(|(container, _)| container));
        measured
    })
    .await
}

/// Measures one container.
fn measure(runtime: &Runtime, container: &Container, buffer: &mut Vec<u8>) -> ContainerUsage {
    let group = {
        let mut meter = container.stats.lock();
        // Seen under the lock: the end closes the meter after it has changed the state, so none is opened behind it.
        if container.state() == ContainerState::Running {
            let version = runtime.cgroups.version();
            if meter.is_none() {
                *meter = runtime.cgroup_of(container).map(|cgroup| Meter::new(&cgroup, version, &runtime.stats.budget));
            }
            meter.as_mut().map(|meter| meter.read(buffer)).unwrap_or_default()
        } else {
            GroupUsage::default()
        }
    };
    ContainerUsage { group, layer: container.stats.layer.usage(&layer_directory(runtime, container), has_ended(container)) }
}

/// Whether a container that ran when it was measured still did afterwards, as far as can be seen.
fn is_there(runtime: &Runtime, container: &Container, usage: &ContainerUsage) -> bool {
    let counted = usage.group.cpu.is_some() || usage.group.memory.is_some() || usage.group.tasks.is_some();
    container.state() == ContainerState::Running && (counted || runtime.cgroups.version() == Version::None)
}

fn has_ended(container: &Container) -> bool {
    matches!(container.state(), ContainerState::Exited | ContainerState::Removing)
}

fn layer_directory(runtime: &Runtime, container: &Container) -> PathBuf {
    container::directory(&runtime.config.root, container.id()).join("upper")
}

/// Walks the layers whose time has come, behind the answer and one after the other. While another walk goes on, the next call
/// that finds them does.
fn refresh_layers<'a>(runtime: &Arc<Runtime>, containers: impl Iterator<Item = &'a Arc<Container>>) {
    let due: Vec<_> = containers.filter(|container| container.stats.layer.is_due(has_ended(container))).cloned().collect();
    if due.is_empty() || runtime.stats.walking.swap(true, Ordering::AcqRel) {
        return;
    }
    let walk = Walk(Arc::clone(runtime));
    drop(tokio::task::spawn_blocking(move || {
        let Walk(runtime) = &walk;
        for container in due {
            if runtime.stop.is_cancelled() {
                break;
            }
            let ended = has_ended(&container);
            container.stats.layer.refresh(&layer_directory(runtime, &container), ended);
        }
    }));
}

/// The one walk that goes on; whatever ends it lets the next one begin.
struct Walk(Arc<Runtime>);

impl Drop for Walk {
    fn drop(&mut self) {
        self.0.stats.walking.store(false, Ordering::Release);
    }
}

async fn blocking<T: Send + 'static>(
    runtime: &Arc<Runtime>,
    work: impl FnOnce(&Arc<Runtime>) -> T + Send + 'static,
) -> Result<T, Lost> {
    let runtime = Arc::clone(runtime);
    tokio::task::spawn_blocking(move || work(&runtime)).await.map_err(|error| Lost(error.to_string()))
}
