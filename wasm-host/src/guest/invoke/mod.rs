//! Calls one function of a reactor or a library and prints what it returns, for people at a desk.
//!
//! The wish is the function's name; the guest's arguments after its own name are the function's. A component's function may also be
//! wished for as a call in the Wasm Value Encoding, `add(1, 2)`. Whatever is wrong with the wish is found before any of the guest's
//! code runs.

mod numbers;
mod wave;

use wasmtime::component::{self, Component, ComponentExportIndex, types};
use wasmtime::{ExternType, FuncType, Module, Store, Val};

use super::commands::{self, Run};
use super::dumps::Dumps;
use super::outcome::Ending;
use super::prepared::ComponentState;
use crate::protocol::GuestSpec;
use crate::stdio::Output;

/// Exported functions that a message names, at most.
const NAMED: usize = 20;

/// What a reactor needs to have called before anything else, by the conventions of WASI preview 1.
const INITIALIZE: &str = "_initialize";

/// What is to be called.
pub(super) struct Wish<'a> {
    /// As it was asked for: a name, or a call.
    text: &'a str,
    /// The guest's arguments without its name.
    args: &'a [String],
    /// Where the results go.
    output: Output,
}

impl<'a> Wish<'a> {
    /// `None`: the guest is run as a command is.
    pub(super) fn of(spec: &'a GuestSpec, output: Output) -> Option<Self> {
        let args = spec.args.get(1..).unwrap_or_default();
        (!spec.invoke.is_empty()).then(|| Wish { text: &spec.invoke, args, output })
    }

    fn print(&self, text: &str) {
        // As for what the guest writes, nobody may be there to read it.
        let _ = self.output.write(format!("{text}\n").as_bytes());
    }
}

/// A function of a core module, with the arguments for it.
pub(super) struct OfModule<'a> {
    wish: &'a Wish<'a>,
    function: FuncType,
    arguments: Vec<Val>,
}

impl<'a> OfModule<'a> {
    /// Finds it and reads its arguments.
    pub(super) fn find(wish: &'a Wish<'a>, module: &Module) -> Result<Self, Ending> {
        let Some(ExternType::Func(function)) = module.get_export(wish.text) else {
            let is_function = |export: &wasmtime::ExportType<'_>| matches!(export.ty(), ExternType::Func(_));
            let names = module.exports().filter(is_function).map(|export| export.name().to_owned());
            return Err(unknown(wish.text, names));
        };
        let types: Vec<_> = function.params().collect();
        let arguments = counted(wish, types.len())?;
        let arguments = types.iter().zip(arguments).map(|(of, text)| numbers::read(of, text));
        let arguments = arguments.collect::<Result<_, _>>().map_err(Ending::NotStarted)?;
        Ok(OfModule { wish, function, arguments })
    }

    /// Calls it in an instance that has just been made.
    pub(super) async fn call<T: Send + 'static>(
        self,
        mut store: Store<T>,
        instance: wasmtime::Instance,
        dumps: Option<&Dumps>,
    ) -> Run {
        if self.wish.text != INITIALIZE
            && let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, INITIALIZE)
            && let Err(error) = initialize.call_async(&mut store, ()).await
        {
            return commands::end(store, Err(error), dumps);
        }
        let Some(function) = instance.get_func(&mut store, self.wish.text) else {
            return Err(unknown(self.wish.text, std::iter::empty()));
        };
        let mut results = vec![Val::I32(0); self.function.results().len()];
        let result = function.call_async(&mut store, &self.arguments, &mut results).await;
        if result.is_ok() {
            for value in &results {
                self.wish.print(&numbers::write(value));
            }
        }
        commands::end(store, result.map(Ok), dumps)
    }
}

/// A function of a component, with the arguments for it.
pub(super) struct OfComponent<'a> {
    wish: &'a Wish<'a>,
    index: ComponentExportIndex,
    arguments: Vec<component::Val>,
    results: Vec<wave::Type>,
}

impl<'a> OfComponent<'a> {
    /// Finds it and reads its arguments.
    pub(super) fn find(wish: &'a Wish<'a>, component: &Component) -> Result<Self, Ending> {
        let (name, call) = match wish.text.split_once('(') {
            Some((name, _)) => (name, wish.text.get(name.len()..)),
            None => (wish.text, None),
        };
        let (function, index) = function(component, name.trim())?;
        let not_started = |reason| Ending::NotStarted(format!("{name}: {reason}"));
        let types = function.params().map(|(_, of)| wave::Type::of(&of)).collect::<Result<Vec<_>, _>>().map_err(not_started)?;
        let results = function.results().map(|of| wave::Type::of(&of)).collect::<Result<_, _>>().map_err(not_started)?;
        let arguments = match call {
            Some(call) => wave::read_call(&types, call),
            None => {
                let arguments = counted(wish, types.len())?;
                types.iter().zip(arguments).map(|(of, text)| wave::read(of, text)).collect()
            }
        };
        Ok(OfComponent { wish, index, arguments: arguments.map_err(not_started)?, results })
    }

    /// Calls it in an instance that has just been made.
    pub(super) async fn call(
        self,
        mut store: Store<ComponentState>,
        instance: component::Instance,
        dumps: Option<&Dumps>,
    ) -> Run {
        let Some(function) = instance.get_func(&mut store, self.index) else {
            return Err(unknown(self.wish.text, std::iter::empty()));
        };
        let mut results = vec![component::Val::Bool(false); self.results.len()];
        let call = store.run_concurrent(async |accessor| function.call_concurrent(accessor, &self.arguments, &mut results).await);
        let result = call.await.and_then(|result| result);
        if result.is_ok() {
            match results.as_slice() {
                // What a function returns that returns nothing.
                [] => self.wish.print("()"),
                values => values.iter().zip(&self.results).for_each(|(value, of)| self.wish.print(&wave::write(of, value))),
            }
        }
        commands::end(store, result.map(Ok), dumps)
    }
}

/// A function by its name, or by `INSTANCE#NAME`; the version of the instance's name may be left out. One in an instance is found by
/// its name alone if no other has that.
fn function(component: &Component, wanted: &str) -> Result<(types::ComponentFunc, ComponentExportIndex), Ending> {
    let engine = component.engine();
    let (instance, name) = wanted.rsplit_once('#').map_or((None, wanted), |(instance, name)| (Some(instance), name));
    let mut found = Vec::new();
    let mut all = Vec::new();
    for (export, item) in component.component_type().exports(engine) {
        match item.ty {
            types::ComponentItem::ComponentFunc(function) => {
                all.push(export.to_owned());
                if instance.is_none() && export == name {
                    found.push((function, export.to_owned(), component.get_export_index(None, export)));
                }
            }
            types::ComponentItem::ComponentInstance(inner) => {
                let bare = export.split('@').next().unwrap_or(export);
                for (function, item) in inner.exports(engine) {
                    let types::ComponentItem::ComponentFunc(of) = item.ty else { continue };
                    all.push(format!("{export}#{function}"));
                    if function == name && instance.is_none_or(|wanted| wanted == export || wanted == bare) {
                        let index = component.get_export_index(None, export);
                        let index = index.and_then(|instance| component.get_export_index(Some(&instance), function));
                        found.push((of, format!("{export}#{function}"), index));
                    }
                }
            }
            _ => {}
        }
    }
    if found.len() > 1 {
        let names = found.into_iter().map(|(_, name, _)| name).collect::<Vec<_>>().join(", ");
        return Err(Ending::NotStarted(format!("several functions are named {wanted}: {names}")));
    }
    match found.pop() {
        Some((function, _, Some(index))) => Ok((function, index)),
        _ => Err(unknown(wanted, all.into_iter())),
    }
}

/// The arguments, if they are as many as the function takes.
fn counted<'a>(wish: &Wish<'a>, wanted: usize) -> Result<&'a [String], Ending> {
    if wish.args.len() == wanted {
        return Ok(wish.args);
    }
    Err(Ending::NotStarted(format!("{} takes {wanted} arguments; it was given {}", wish.text, wish.args.len())))
}

fn unknown(name: &str, names: impl Iterator<Item = String>) -> Ending {
    let names: Vec<String> = names.take(NAMED).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Ending::NotStarted(format!("there is no exported function {name}; there is: {there}"))
}
