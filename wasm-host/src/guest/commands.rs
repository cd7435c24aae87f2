//! Runs commands: modules with `_start`, components with `wasi:cli/run` of 0.2 or 0.3; or one function of what is none.

use wasmtime::component::Component;
use wasmtime::{Module, Store};
use wasmtime_wasi::{WasiCtxBuilder, p2, p3};

use super::code::Code;
use super::dumps::Dumps;
use super::growth::Growth;
use super::invoke::{self, Wish};
use super::offer::{self, Facts};
use super::outcome::Ending;
use super::outgoing::Outgoing;
use super::prepared::{ComponentState, Prepared};
use super::preview1::{self, ModuleState, Sockets};
use crate::interfaces::Interfaces;
use crate::protocol::GuestSpec;
use crate::stdio::Streams;

/// Threads that may block for a guest: name lookup alone uses them, since file operations run on the guest's own thread.
const BLOCKING_THREADS: usize = 2;

/// Events that the guest's thread takes from the kernel at once; the table for them is part of every guest's memory.
const EVENTS_PER_TICK: usize = 64;

/// Bytes that one call of the guest may make the host copy. The container's memory limit is what counts; this only keeps
/// a single call from asking for more than a 32-bit guest has. wasmtime's own default is 128 MiB.
pub(super) const CALL_BYTES: usize = 1 << 32;

/// What is particular about a guest, besides its code.
struct Given<'a> {
    wish: Option<Wish<'a>>,
    dumps: Option<Dumps>,
    facts: Facts,
}

/// Runs `code` to its end. Calls `ready` right before the guest's own code begins.
pub(super) fn run(
    prepared: &Prepared,
    code: Code,
    mut context: WasiCtxBuilder,
    spec: &GuestSpec,
    streams: &Streams,
    growth: Growth,
    ready: impl FnOnce(),
) -> Ending {
    let given = Given { wish: Wish::of(spec, streams.stdout.clone()), dumps: Dumps::of(spec), facts: Facts::new(spec, streams) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_io_events_per_tick(EVENTS_PER_TICK)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("guest")
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Ending::NotStarted(format!("cannot wait for events: {error}")),
    };
    let ending = match code {
        Code::Module(module) => {
            let sockets = match Sockets::open(&module, spec) {
                Ok(sockets) => sockets,
                Err(error) => return Ending::NotStarted(error.to_string()),
            };
            if let Some(sockets) = &sockets {
                sockets.announce(spec, &mut context);
            }
            let state = ModuleState::new(context.build_p1(), growth);
            runtime.block_on(run_module(prepared, &module, state, sockets, given, ready))
        }
        Code::Component(component) => {
            let interfaces = match Interfaces::of(&component, spec, streams) {
                Ok(interfaces) => interfaces,
                Err(error) => return Ending::NotStarted(error.to_string()),
            };
            let state = ComponentState::new(context.build(), Outgoing::new(spec), interfaces, growth);
            runtime.block_on(run_component(prepared, &component, state, given, ready))
        }
        Code::Service(_) => return Ending::NotStarted("a service is no command".to_owned()),
    };
    // A name lookup may still be on its way in a thread; the process does not wait for it.
    runtime.shutdown_background();
    ending.unwrap_or_else(|ending| ending)
}

/// How far a guest came, told by the side of the result; both sides mean the end.
pub(super) type Run = Result<Ending, Ending>;

async fn run_module(
    prepared: &Prepared,
    module: &Module,
    mut state: ModuleState,
    sockets: Option<Sockets>,
    given: Given<'_>,
    ready: impl FnOnce(),
) -> Run {
    let instance = match sockets {
        None => prepared.modules.instantiate_pre(module),
        Some(sockets) => {
            state = state.with(sockets);
            // In this process only: other guests pay nothing for it.
            let mut linker = prepared.modules.clone();
            preview1::link_sockets(&mut linker).and_then(|()| linker.instantiate_pre(module))
        }
    };
    let instance = instance.map_err(Ending::not_started)?;
    let dumps = given.dumps.as_ref();
    let invoked = given.wish.as_ref().map(|wish| invoke::OfModule::find(wish, module)).transpose()?;
    if invoked.is_none() && module.get_export("_start").is_none() {
        return Err(Ending::NotStarted("the module has no function _start, so it is not a command".to_owned()));
    }
    let mut store = store(prepared, state);
    store.limiter(|state| &mut state.growth);
    ready();
    let instance = instance.instantiate_async(&mut store).await.map_err(Ending::from_instantiation)?;
    if let Some(invoked) = invoked {
        return invoked.call(store, instance, dumps).await;
    }
    offer::make(&mut store, &instance, given.facts).await.map_err(|error| Ending::from_call(&error))?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start").map_err(Ending::not_started)?;
    let result = start.call_async(&mut store, ()).await;
    end(store, result.map(|()| Ok(())), dumps)
}

async fn run_component(
    prepared: &Prepared,
    component: &Component,
    state: ComponentState,
    given: Given<'_>,
    ready: impl FnOnce(),
) -> Run {
    let dumps = given.dumps.as_ref();
    let invoked = given.wish.as_ref().map(|wish| invoke::OfComponent::find(wish, component)).transpose()?;
    let instance = prepared.components.instantiate_pre(component).map_err(Ending::not_started)?;
    let mut store = store(prepared, state);
    store.limiter(|state| &mut state.growth);
    if let Some(invoked) = invoked {
        ready();
        let instance = instance.instantiate_async(&mut store).await.map_err(Ending::from_instantiation)?;
        return invoked.call(store, instance, dumps).await;
    }
    if let Ok(command) = p2::bindings::CommandPre::new(instance.clone()) {
        ready();
        let command = command.instantiate_async(&mut store).await.map_err(Ending::from_instantiation)?;
        let result = command.wasi_cli_run().call_run(&mut store).await;
        return end(store, result, dumps);
    }
    let Ok(command) = p3::bindings::CommandPre::new(instance) else {
        return Err(Ending::NotStarted("the component does not export wasi:cli/run, so it is not a command".to_owned()));
    };
    ready();
    let command = command.instantiate_async(&mut store).await.map_err(Ending::from_instantiation)?;
    let result = store.run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await).await;
    end(store, result.and_then(|result| result), dumps)
}

fn store<T>(prepared: &Prepared, state: T) -> Store<T> {
    let mut store = Store::new(prepared.engine(), state);
    store.set_hostcall_fuel(CALL_BYTES);
    store
}

pub(super) fn end<T: 'static>(mut store: Store<T>, result: wasmtime::Result<Result<(), ()>>, dumps: Option<&Dumps>) -> Run {
    let dumped = match (&result, dumps) {
        (Err(error), Some(dumps)) => dumps.write(&mut store, error),
        _ => None,
    };
    // The process ends now; taking the instance apart would only delay it.
    std::mem::forget(store);
    Ok(match result {
        Ok(Ok(())) => Ending::Exited(0),
        Ok(Err(())) => Ending::Exited(1),
        Err(error) => Ending::from_call(&error).with(dumped),
    })
}
