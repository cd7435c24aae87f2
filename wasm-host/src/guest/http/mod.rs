//! Serves a component that answers HTTP requests, in its guest process.
//!
//! ```text
//!  connection ─▶ limits: a turn, or 503 ─▶ instances: from those that wait, or made from the pool
//!                                              │ a task for each request; wasm yields with every epoch
//!            ◀─ head ◀─────────────────────────┤ 504 when its time is over, 500 when it traps: the instance is dropped
//!            ◀─ body, as the client takes it ◀─┘ its turn ends with its last byte and its last instruction
//! ```
//!
//! The process is ready when it listens. SIGTERM ends listening; what runs is finished, and the process exits with 0.

mod access;
mod body;
mod instances;
mod limits;
mod listener;
mod refusal;
mod sampler;
mod server;
mod ticker;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use wasmtime::component::Component;
use wasmtime::{Engine, component};

use self::instances::Instances;
use self::listener::Listener;
use self::sampler::Sampler;
use self::server::Server;
use self::ticker::Ticker;
use super::growth::{Sum, Told};
use super::outcome::Ending;
use super::prepared::{ComponentState, PrepareError, link_components};
use crate::engine::{self, Tools};
use crate::protocol::{GuestSpec, HttpService};
use crate::stdio::Streams;

/// Instances that there may be beyond the requests that have a turn: those that wait for their next one, and those whose response
/// has gone and that have not returned yet.
const SPARE_INSTANCES: u32 = 16;

/// A component to be served, with the engine that it needs.
pub struct Service {
    engine: Engine,
    linker: component::Linker<ComponentState>,
    pub(super) component: Option<Component>,
}

impl Service {
    /// Builds the engine, with a pool of as many instances as `settings` allow requests, and links the host functions.
    ///
    /// # Errors
    /// As of the engine.
    pub(super) fn new(settings: &HttpService, tools: &Tools) -> Result<Self, PrepareError> {
        let instances = settings.max_requests.max(1).saturating_add(SPARE_INSTANCES);
        Self::with(engine::pooled_service(instances, tools)?)
    }

    /// The same for a component that no place of a pool is large enough for: its instances are made one by one.
    ///
    /// # Errors
    /// As of the engine.
    pub(super) fn without_pool(tools: &Tools) -> Result<Self, PrepareError> {
        Self::with(engine::service_with(tools)?)
    }

    fn with(engine: Engine) -> Result<Self, PrepareError> {
        let linker = link_components(&engine)?;
        Ok(Service { engine, linker, component: None })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Serves until SIGTERM. Calls `ready` when every address is listened on.
pub(super) fn serve(
    service: Service,
    spec: &GuestSpec,
    streams: &Streams,
    outcome: Arc<OwnedFd>,
    ready: impl FnOnce(),
) -> Ending {
    let settings = spec.http.clone().unwrap_or_default();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if settings.threads > 0 {
        builder.worker_threads(usize::try_from(settings.threads).unwrap_or(1));
    }
    let runtime = match builder.enable_io().enable_time().thread_name("service").build() {
        Ok(runtime) => runtime,
        Err(error) => return Ending::NotStarted(format!("cannot start the threads of the service: {error}")),
    };
    let served = runtime.block_on(run(service, spec, &settings, streams, outcome, ready));
    runtime.shutdown_background();
    served.unwrap_or_else(|ending| ending)
}

async fn run(
    service: Service,
    spec: &GuestSpec,
    settings: &HttpService,
    streams: &Streams,
    outcome: Arc<OwnedFd>,
    ready: impl FnOnce(),
) -> Result<Ending, Ending> {
    let not_started = |error: &dyn std::fmt::Display| Ending::NotStarted(error.to_string());
    let Some(component) = service.component else { return Err(Ending::NotStarted("there is no component".to_owned())) };
    let instance = service.linker.instantiate_pre(&component).map_err(Ending::not_started)?;
    let sum = Arc::new(Sum::default());
    let told = Told::new(Arc::clone(&sum), outcome);
    let ticker = Ticker::start(service.engine.clone(), told).map_err(|error| not_started(&error))?;
    let sampler = Sampler::of(spec, &component).map_err(Ending::not_started)?;
    let instances = Instances::new(instance, spec, settings, streams, ticker, sum, sampler.clone());
    let instances = instances.map_err(Ending::not_started)?;
    let listeners = settings.addresses.iter().map(|address| Listener::bind(address));
    let listeners = listeners.collect::<Result<Vec<_>, _>>().map_err(|error| not_started(&error))?;
    let mut stop = Stop::new().map_err(|error| not_started(&error))?;
    let server = Arc::new(Server::new(instances, settings, streams));
    ready();
    server.serve(listeners, stop.asked()).await;
    if let Some(sampler) = sampler {
        let _ = streams.reports().write(format!("{}\n", sampler.finish()).as_bytes());
    }
    Ok(Ending::Exited(0))
}

/// The signals that end a service.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Stop([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::quit())?]))
    }

    async fn asked(&mut self) {
        let [terminate, interrupt, quit] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}
