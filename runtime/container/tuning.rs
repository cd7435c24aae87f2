//! What people ask of a guest while they work on it: a function to be called, a profile, core dumps.
//!
//! Asked for by annotations: the container's own, which `cri-wasm run` writes, or the pod's, which hold for each of its containers.
//! All files are written by the guest's own process into its own file system, so nothing here gives a pod more than it has; a profile
//! costs the guest memory and time, and a handler says whether pods may ask for one.

use wasm_host::protocol::{CodeKind, GuestSpec, Profile};

use super::metadata::ContainerConfig;
use crate::config::{self, Handler};
use crate::sandbox::SandboxMetadata;

/// The exported function that is called instead of running the guest as a command.
pub const INVOKE: &str = "cri-wasm.dev/invoke";

/// `perf`, `jitdump`, `guest` or `off`.
const PROFILE: &str = "cri-wasm.dev/profile";

/// The directory of core dumps.
const CORE_DUMP_DIR: &str = "cri-wasm.dev/core-dump-dir";

/// The same, as a variable of the container's environment.
const CORE_DUMP_DIR_ENV: &str = "CRI_WASM_CORE_DUMP_DIR";

/// The directory of profiles, for `jitdump` and `guest`.
const PROFILE_DIR_ENV: &str = "CRI_WASM_PROFILE_DIR";

/// Where profiles lie if nobody says: where perf looks for its maps in any case.
const PROFILE_DIR: &str = "/tmp";

/// What is asked for cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TuningError {
    /// The annotation is not for this handler's pods.
    #[error("the annotation {PROFILE} is not allowed by the pod's handler (profile_by_annotation)")]
    NotAllowed,
    /// No such profile.
    #[error("the annotation {PROFILE} says {0:?}; it is perf, jitdump, guest or off")]
    NoProfile(String),
    /// A profile that takes samples with every epoch, which commands do not have.
    #[error("the profile \"guest\" is one of components that answer HTTP requests; commands have \"perf\" and \"jitdump\"")]
    NoEpochs,
    /// The directory is none.
    #[error("{place} {value:?} is no absolute path")]
    NotAbsolute {
        /// Who says so.
        place: &'static str,
        /// What is said.
        value: String,
    },
}

/// The function that the container is asked to call.
pub fn invoked<'a>(container: &'a ContainerConfig, sandbox: &'a SandboxMetadata) -> Option<&'a str> {
    annotation(container, sandbox, INVOKE)
}

/// Adds to a specification, whose kind and environment are there, what its container is asked for.
///
/// # Errors
/// See [`TuningError`].
pub fn add_to(
    spec: &mut GuestSpec,
    container: &ContainerConfig,
    sandbox: &SandboxMetadata,
    handler: &Handler,
) -> Result<(), TuningError> {
    invoked(container, sandbox).unwrap_or_default().clone_into(&mut spec.invoke);
    let profile = match annotation(container, sandbox, PROFILE) {
        Some(_) if !handler.profile_by_annotation => return Err(TuningError::NotAllowed),
        Some("perf") => Profile::Perf,
        Some("jitdump") => Profile::Jitdump,
        Some("guest") => Profile::Guest,
        Some("off") => Profile::Off,
        Some(other) => return Err(TuningError::NoProfile(other.to_owned())),
        None => match handler.profile {
            config::Profile::Off => Profile::Off,
            config::Profile::Perf => Profile::Perf,
            config::Profile::Jitdump => Profile::Jitdump,
            config::Profile::Guest => Profile::Guest,
        },
    };
    if profile == Profile::Guest && spec.kind() != CodeKind::ComponentHttp {
        return Err(TuningError::NoEpochs);
    }
    spec.set_profile(profile);
    let directory = variable(spec, PROFILE_DIR_ENV).map(|value| absolute(PROFILE_DIR_ENV, value)).transpose()?;
    spec.profile_dir = directory.unwrap_or_else(|| PROFILE_DIR.to_owned());
    let directory = match (annotation(container, sandbox, CORE_DUMP_DIR), variable(spec, CORE_DUMP_DIR_ENV)) {
        (Some(value), _) => absolute(CORE_DUMP_DIR, value)?,
        (None, Some(value)) => absolute(CORE_DUMP_DIR_ENV, value)?,
        (None, None) => String::new(),
    };
    spec.core_dump_dir = directory;
    Ok(())
}

fn variable<'a>(spec: &'a GuestSpec, name: &str) -> Option<&'a str> {
    let value = spec.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))?;
    (!value.is_empty()).then_some(value)
}

fn absolute(place: &'static str, value: &str) -> Result<String, TuningError> {
    let value = value.to_owned();
    if value.starts_with('/') { Ok(value) } else { Err(TuningError::NotAbsolute { place, value }) }
}

/// The value of an annotation, if it has one that says something.
fn annotation<'a>(container: &'a ContainerConfig, sandbox: &'a SandboxMetadata, name: &str) -> Option<&'a str> {
    let value = container.annotations.get(name).or_else(|| sandbox.config.annotations.get(name))?;
    (!value.is_empty()).then_some(value.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::metadata::example_config;
    use super::*;
    use crate::sandbox::metadata::example;

    fn asked(kind: CodeKind, of_pod: &[(&str, &str)], env: &[&str], handler: &Handler) -> Result<GuestSpec, TuningError> {
        let mut sandbox = example("s");
        sandbox.config.annotations.extend(of_pod.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut spec = GuestSpec { env: env.iter().map(|entry| (*entry).to_owned()).collect(), ..GuestSpec::default() };
        spec.set_kind(kind);
        add_to(&mut spec, &example_config(), &sandbox, handler).map(|()| spec)
    }

    #[test]
    fn a_pod_asks_for_a_profile_only_where_its_handler_lets_it() {
        let none = Handler::default();
        let open = Handler { profile_by_annotation: true, ..Handler::default() };
        let always = Handler { profile: config::Profile::Guest, ..Handler::default() };
        let (command, service) = (CodeKind::ModuleCommand, CodeKind::ComponentHttp);
        let perf = [(PROFILE, "perf")];
        assert_eq!(asked(command, &[], &[], &none).unwrap().profile(), Profile::Off);
        assert_eq!(asked(command, &perf, &[], &none).unwrap_err(), TuningError::NotAllowed);
        let spec = asked(command, &perf, &["CRI_WASM_PROFILE_DIR=/data"], &open).unwrap();
        assert_eq!((spec.profile(), spec.profile_dir.as_str()), (Profile::Perf, "/data"));
        assert_eq!(asked(service, &[], &[], &always).unwrap().profile(), Profile::Guest);
        assert_eq!(asked(command, &[], &[], &always).unwrap_err(), TuningError::NoEpochs);
        assert!(asked(command, &[(PROFILE, "gprof")], &[], &open).unwrap_err().to_string().contains("gprof"));
        assert!(asked(command, &perf, &["CRI_WASM_PROFILE_DIR=data"], &open).is_err());
    }

    #[test]
    fn core_dumps_go_where_the_annotation_says_before_the_environment() {
        let none = Handler::default();
        let of =
            |pod: &[(&str, &str)], env: &[&str]| asked(CodeKind::ModuleCommand, pod, env, &none).map(|spec| spec.core_dump_dir);
        let env = ["CRI_WASM_CORE_DUMP_DIR=/env"];
        assert_eq!(of(&[], &[]).unwrap(), "");
        assert_eq!(of(&[], &env).unwrap(), "/env");
        assert_eq!(of(&[(CORE_DUMP_DIR, "/pod")], &env).unwrap(), "/pod");
        assert!(of(&[(CORE_DUMP_DIR, "pod")], &env).unwrap_err().to_string().contains("core-dump-dir"));
    }
}
