//! What all guests of a node share: the engine and the linked host functions.
//!
//! Made once in the supervisor. A forked guest process finds it in memory that it shares with its siblings, and neither
//! spends its first milliseconds on it nor pays for a copy.

use wasmtime::component::{self, ResourceTable};
use wasmtime::{Engine, Linker};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2, p3};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::descriptors;
use super::growth::Growth;
use super::outgoing::Outgoing;
use super::preview1::{self, ModuleState};
use crate::engine::EngineError;
use crate::interfaces::{self, Interfaces};

/// State of a store that runs a component.
pub(crate) struct ComponentState {
    pub(crate) wasi: WasiCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outgoing: Outgoing,
    pub(crate) interfaces: Interfaces,
    pub(crate) table: ResourceTable,
    pub(crate) growth: Growth,
}

impl ComponentState {
    pub(crate) fn new(wasi: WasiCtx, outgoing: Outgoing, interfaces: Interfaces, growth: Growth) -> Self {
        Self { wasi, http: WasiHttpCtx::new(), outgoing, interfaces, table: ResourceTable::new(), growth }
    }
}

impl WasiHttpView for ComponentState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

impl WasiView for ComponentState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The engine of commands, and every host function that they may import.
pub struct Prepared {
    engine: Engine,
    pub(crate) modules: Linker<ModuleState>,
    pub(crate) components: component::Linker<ComponentState>,
}

/// The host functions do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The engine refuses them.
    #[error("cannot link the host functions: {0}")]
    Link(String),
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Prepared {
    /// Links WASI 0.1 (and its predecessor `wasi_unstable`), 0.2 and 0.3. Starts no thread.
    ///
    /// # Errors
    /// None on a machine for which the engine could be built.
    pub fn new(engine: Engine) -> Result<Self, PrepareError> {
        let failed = |error: wasmtime::Error| PrepareError::Link(format!("{error:#}"));
        let mut modules = Linker::new(&engine);
        preview1::link(&mut modules).map_err(failed)?;
        let components = link_components(&engine)?;
        Ok(Prepared { engine, modules, components })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// State of a store in which nothing runs, to look host functions up with.
    pub(crate) fn probe(&self) -> ModuleState {
        ModuleState::new(WasiCtx::builder().build_p1(), Growth::default())
    }
}

/// Every interface that a component may import, for `engine`.
pub(crate) fn link_components(engine: &Engine) -> Result<component::Linker<ComponentState>, PrepareError> {
    let failed = |error: wasmtime::Error| PrepareError::Link(format!("{error:#}"));
    let mut linker = component::Linker::new(engine);
    p2::add_to_linker_with_options_async(&mut linker, &p2_options()).map_err(failed)?;
    p3::add_to_linker(&mut linker).map_err(failed)?;
    descriptors::link(&mut linker).map_err(failed)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).map_err(failed)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker).map_err(failed)?;
    interfaces::link(&mut linker).map_err(failed)?;
    Ok(linker)
}

/// All of 0.2, with the unstable `network-error-code` that the world `wasi:cli/command` names.
fn p2_options() -> p2::bindings::LinkOptions {
    let mut options = p2::bindings::LinkOptions::default();
    options.network_error_code(true);
    options
}
