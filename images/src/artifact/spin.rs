//! Applications of Spin (<https://github.com/spinframework/spin>, `spin registry push`): a layer for each component, a
//! layer for each static file, and a locked application that says which is which.
//!
//! The locked application is the last layer; Spin before version 2 had it as the configuration. Each component becomes
//! the file `/ID.wasm`. What Spin's own host adds (triggers, variables, key-value stores, outbound host lists) is not
//! served, and static files are left out: they belong to one component each, while a container has one root.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::refusal::Refused;
use super::{Contents, Module, is_wasm_type, usable_name};
use crate::digest::Digest;
use crate::image::ImageConfig;
use crate::manifest::{Descriptor, Manifest};

/// The locked application, as a layer or as the configuration.
pub(super) const APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";

/// The newest `spin_lock_version` that is known.
const LOCK_VERSION: u64 = 1;

/// Components of one application: each is named, fetched and compiled. What an image may have of wasm files by default.
const MAX_COMPONENTS: usize = 256;

#[derive(Deserialize)]
struct Application {
    spin_lock_version: u64,
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    id: String,
    source: Source,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    files: Vec<IgnoredAny>,
    #[serde(default)]
    dependencies: BTreeMap<String, IgnoredAny>,
    #[serde(default)]
    trigger_dependencies: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct Source {
    digest: Option<Digest>,
}

/// The layer with the locked application.
pub(super) fn application(manifest: &Manifest) -> Option<&Descriptor> {
    manifest.layers.iter().find(|layer| layer.media_type == APPLICATION)
}

/// What an application runs, from its locked form.
pub(crate) fn contents(manifest: &Manifest, locked: &[u8]) -> Result<Contents, Refused> {
    let application: Application = serde_json::from_slice(locked)
        .map_err(|error| Refused::Invalid(format!("its Spin application cannot be read: {error}")))?;
    if application.spin_lock_version > LOCK_VERSION {
        let version = application.spin_lock_version;
        return Err(Refused::Unsupported(format!("its Spin application is of lock version {version}; known is {LOCK_VERSION}")));
    }
    let count = application.components.len();
    if count > MAX_COMPONENTS {
        return Err(Refused::Unsupported(format!(
            "its Spin application has {count} components, above the limit of {MAX_COMPONENTS}"
        )));
    }
    let mut modules: Vec<Module> = Vec::new();
    for component in &application.components {
        let id = &component.id;
        let file_name = format!("{id}.wasm");
        if !usable_name(&file_name) || modules.iter().any(|module| module.file_name == file_name) {
            return Err(Refused::Invalid(format!("its Spin application has a component with the unusable name {id:?}")));
        }
        if !component.dependencies.is_empty() || !component.trigger_dependencies.is_empty() {
            let advice = "push it composed, as `spin registry push` does by default";
            return Err(Refused::Unsupported(format!(
                "its Spin component {id:?} has parts that are not composed into it; {advice}"
            )));
        }
        let layer =
            component.source.digest.as_ref().and_then(|digest| {
                manifest.layers.iter().find(|layer| layer.digest == *digest && is_wasm_type(&layer.media_type))
            });
        let Some(layer) = layer else {
            return Err(Refused::Invalid(format!("the Spin component {id:?} is not among its wasm layers")));
        };
        modules.push(Module { blob: layer.bare(), file_name });
    }
    let left_out: usize = application.components.iter().map(|component| component.files.len()).sum();
    if left_out > 0 {
        tracing::warn!(files = left_out, "static files of a Spin application are left out");
    }
    // Several components want several environments, and an image has one.
    let env = match application.components.as_slice() {
        [] => return Err(Refused::Invalid("its Spin application has no component".to_owned())),
        [only] => only.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        _ => Vec::new(),
    };
    let config = ImageConfig { env, labels: manifest.annotations.clone(), ..ImageConfig::default() };
    Ok(Contents { modules, config })
}
