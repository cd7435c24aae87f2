//! What people ask of a guest while they work on it: a function to be called, a profile, core dumps.
//!
//! Asked for by annotations: the container's own, which `cri-wasm run` writes, or the pod's, which hold for each of its containers.

use super::metadata::ContainerConfig;
use crate::sandbox::SandboxMetadata;

/// The exported function that is called instead of running the guest as a command.
pub const INVOKE: &str = "cri-wasm.dev/invoke";

/// The function that the container is asked to call.
pub fn invoked<'a>(container: &'a ContainerConfig, sandbox: &'a SandboxMetadata) -> Option<&'a str> {
    annotation(container, sandbox, INVOKE)
}

/// The value of an annotation, if it has one that says something.
fn annotation<'a>(container: &'a ContainerConfig, sandbox: &'a SandboxMetadata, name: &str) -> Option<&'a str> {
    let value = container.annotations.get(name).or_else(|| sandbox.config.annotations.get(name))?;
    (!value.is_empty()).then_some(value)
}
