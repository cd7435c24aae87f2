//! Standard interfaces beside those of wasmtime-wasi, whose data comes from what Kubernetes gives a container: wasi:config from
//! its environment and mounted ConfigMaps, wasi:keyvalue in memory, a volume or Redis, wasi:logging into its log, wasi:tls with
//! the authorities that it trusts.
//!
//! The functions are linked for every component, once, in the supervisor; a guest that imports none of them has nothing of this
//! but two empty fields. What the environment says is read when a component that imports one of them starts, and a setting that
//! cannot be understood keeps it from starting. All instances of a service share one [`Interfaces`]: its stores and connections.

mod config;
mod files;
mod keyvalue;
mod logging;
mod tls;

use std::sync::Arc;

use wasmtime::component::{Component, HasData, Linker, ResourceTable};
use wasmtime_wasi_tls::{WasiTlsCtx, WasiTlsCtxView, WasiTlsView};

use self::config::Config;
use self::keyvalue::Buckets;
use self::logging::Logger;
use self::tls::Trust;
use crate::egress::Allowed;
use crate::guest::{ComponentState, roots};
use crate::protocol::GuestSpec;
use crate::stdio::Streams;

/// Packages of which a component must import something to be given a state.
const PACKAGES: [&str; 4] = ["wasi:config/", "wasi:keyvalue/", "wasi:logging/", "wasi:tls/"];

/// A variable of the container's environment that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("the environment variable {variable}={value:?}: {reason}")]
pub(crate) struct SettingError {
    variable: String,
    value: String,
    reason: String,
}

/// What the functions of a component work with. Copies share it.
pub(crate) struct Interfaces {
    shared: Option<Arc<Shared>>,
    trust: Option<Arc<Trust>>,
    tls: WasiTlsCtx,
}

/// Of a guest's process.
struct Shared {
    config: Config,
    buckets: Buckets,
    logger: Logger,
}

impl Clone for Interfaces {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), tls: tls::context(self.trust.clone()), trust: self.trust.clone() }
    }
}

impl Interfaces {
    /// Reads what `spec` says to `component`, if that imports any of the interfaces.
    ///
    /// # Errors
    /// A variable of the environment cannot be understood.
    pub(crate) fn of(component: &Component, spec: &GuestSpec, streams: &Streams) -> Result<Self, SettingError> {
        let imported = component.component_type();
        let mut imports = imported.imports(component.engine());
        if !imports.any(|(name, _)| PACKAGES.iter().any(|package| name.starts_with(package))) {
            return Ok(Self { shared: None, trust: None, tls: tls::context(None) });
        }
        let trust = Arc::new(Trust::new(roots::Named::of(&spec.env)));
        let shared = Shared {
            config: Config::of(&spec.env),
            buckets: Buckets::of(&spec.env, &trust, &Allowed::of(&spec.egress))?,
            logger: Logger::of(&spec.env, streams)?,
        };
        Ok(Self { shared: Some(Arc::new(shared)), tls: tls::context(Some(Arc::clone(&trust))), trust: Some(trust) })
    }

    fn shared(&self) -> wasmtime::Result<Arc<Shared>> {
        // A component cannot call what it does not import.
        self.shared.clone().ok_or_else(|| wasmtime::format_err!("the interface was not imported"))
    }
}

/// Defines the functions of every interface.
pub(crate) fn link(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    config::link(linker)?;
    keyvalue::link(linker)?;
    logging::link(linker)?;
    tls::link(linker)
}

/// What a function sees of its store.
struct View<'a> {
    interfaces: &'a mut Interfaces,
    table: &'a mut ResourceTable,
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

fn view(state: &mut ComponentState) -> View<'_> {
    View { interfaces: &mut state.interfaces, table: &mut state.table }
}

impl WasiTlsView for ComponentState {
    fn tls(&mut self) -> WasiTlsCtxView<'_> {
        WasiTlsCtxView { ctx: &mut self.interfaces.tls, table: &mut self.table }
    }
}

/// The value of a variable in an environment of `NAME=VALUE`, if it is set and not empty.
fn variable<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=')).filter(|value| !value.is_empty())
}
