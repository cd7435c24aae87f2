//! What a compiled file is, and whether guests are given all that it imports.

use std::collections::BTreeSet;

use wasmtime::component::{Component, Linker};
use wasmtime::{ExternType, Module, Store};

use super::report::{Artifact, CompileError};
use super::{suggest, world};
use crate::guest::{ComponentState, Prepared};

/// Most names in a message.
const NAMED_UNKNOWN: usize = 10;

pub(super) fn module(prepared: &Prepared, module: &Module) -> Result<Artifact, CompileError> {
    // All names that are missing, rather than the first that wasmtime comes upon.
    let state = prepared.probe();
    let mut store = Store::new(prepared.engine(), state);
    let mut unknown = Vec::new();
    // Each once, however often it is imported: not more than there are host functions.
    let mut imports = BTreeSet::new();
    for import in module.imports() {
        let name = format!("{}.{}", import.module(), import.name());
        if prepared.modules.get_by_import(&mut store, &import).is_some() {
            imports.insert(name);
        } else if !unknown.contains(&name) {
            unknown.push(name);
            if unknown.len() > NAMED_UNKNOWN {
                break;
            }
        }
    }
    if !unknown.is_empty() {
        let more = if unknown.len() > NAMED_UNKNOWN { " and others" } else { "" };
        unknown.truncate(NAMED_UNKNOWN);
        let known = prepared.modules.iter(&mut store).map(|(module, name, _)| format!("{module}.{name}")).collect();
        let names: Vec<String> = unknown.iter().map(|name| with_hint(name, suggest::nearest(name, &known))).collect();
        let names = names.join(", ");
        return Err(CompileError::unknown_import(format!("the module imports {names}{more}, which no guest is given")));
    }
    // Names fit; now the types.
    prepared.modules.instantiate_pre(module).map_err(|error| CompileError::unknown_import(format!("{error:#}")))?;
    let function = |name| matches!(module.get_export(name), Some(ExternType::Func(_)));
    let world = match () {
        () if function("_start") => "command",
        () if function("_initialize") => "reactor",
        () => "library",
    };
    let uses = |name| module.imports().any(|import| import.module() == name);
    let wasi = match () {
        () if uses("wasi_snapshot_preview1") => "p1",
        () if uses("wasi_unstable") => "p0",
        () => "none",
    };
    Ok(Artifact { kind: "module", world, wasi, imports: imports.into_iter().collect() })
}

pub(super) fn component(linker: &Linker<ComponentState>, component: &Component) -> Result<Artifact, CompileError> {
    let engine = linker.engine();
    let types = component.component_type();
    // All of them, as handlers may forbid what is in the list. It has a bound: what a guest is given are instances, of which a
    // component has at most 1000 by the engine's own limit.
    let imports: Vec<&str> = types.imports(engine).map(|(name, _)| name).collect();
    let exports: Vec<&str> = types.exports(engine).map(|(name, _)| name).collect();
    // The error names the import, and what is missing in it.
    linker.instantiate_pre(component).map_err(|error| {
        let error = format!("{error:#}");
        // The name stands in quotes or backquotes in the engine's text, whose form is its own.
        let hint = imports.iter().filter(|name| error.contains(**name)).find_map(|name| suggest::interface(name));
        CompileError::unknown_import(with_hint(&error, hint))
    })?;
    let world = world::of(&exports);
    let uses = |version: &str| imports.iter().chain(&exports).any(|name| name.starts_with("wasi:") && name.contains(version));
    let wasi = match () {
        () if uses("@0.3.") => "p3",
        () if uses("@0.2.") => "p2",
        () => "none",
    };
    let imports = imports.into_iter().map(str::to_owned).collect();
    Ok(Artifact { kind: "component", world, wasi, imports })
}

fn with_hint(text: &str, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{text} (did you mean {hint}?)"),
        None => text.to_owned(),
    }
}
