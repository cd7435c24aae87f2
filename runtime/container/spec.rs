//! Composes what a guest process is told, as Kubernetes composes it: the container's request over the image's configuration.

use std::path::PathBuf;

use images::{DEFAULT_PATH, search_path};
use wasm_host::protocol::GuestSpec;

use super::capabilities;
use super::entrypoint::{self, EntrypointError, Module, Program, Tree};
use super::metadata::{ContainerConfig, ContainerMetadata, ProcessSpec, SeccompRequest};
use super::mounts::clean;
use super::user::{self, UserError};
use crate::config::{Config, Seccomp};
use crate::sandbox::{NamespaceMode, SandboxMetadata, egress, sysctls};

/// Where the kubelet says which file holds the termination message.
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";

/// Why a container cannot be composed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// What is to run.
    #[error(transparent)]
    Entrypoint(#[from] EntrypointError),
    /// Who is to run it.
    #[error(transparent)]
    User(#[from] UserError),
    /// A field that no process can be given.
    #[error("{field} {value:?} {reason}")]
    Field {
        /// The request's field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What an image says about how to run it.
#[derive(Debug, Clone, Default)]
pub struct ImageDefaults {
    /// Its command.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub cmd: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Empty: `/`.
    pub working_dir: String,
    /// `user[:group]`; empty: root.
    pub user: String,
    /// An artifact of one module: that module runs, whatever the command is.
    pub only_module: Option<Module>,
    /// An artifact of several modules: these, of which the command names one.
    pub choice: Vec<PathBuf>,
    /// Text of its /etc/passwd.
    pub passwd: String,
    /// Text of its /etc/group.
    pub group: String,
}

/// Composes, or says why the container cannot be.
pub fn compose(
    config: &ContainerConfig,
    image: &ImageDefaults,
    hostname: &str,
    tree: &impl Tree,
) -> Result<ProcessSpec, SpecError> {
    let user = user::resolve(&config.user, &image.user, &image.passwd, &image.group)?;
    let working_dir = working_dir(&config.working_dir, &image.working_dir)?;
    let env = environment(config, image, hostname, user.home.as_deref())?;
    let args = arguments(config, image)?;
    let Program { module, args } = match &image.only_module {
        Some(module) => Program { module: module.clone(), args },
        None => entrypoint::find(tree, &args, &working_dir, search_path(&env))?,
    };
    let termination_message_path =
        config.annotations.get(TERMINATION_MESSAGE_PATH).and_then(|path| clean(path)).unwrap_or_default();
    Ok(ProcessSpec {
        args,
        env,
        working_dir,
        user: user.user,
        termination_message_path,
        module: module.path,
        module_digest: module.digest,
        seccomp: Vec::new(),
    })
}

/// What the supervisor is sent, but for mounts and streams, which go with their descriptors.
pub fn guest_spec(container: &ContainerMetadata, sandbox: &SandboxMetadata, config: &Config) -> GuestSpec {
    let process = &container.process;
    let mut env = process.env.clone();
    if container.config.tty {
        name_terminal(&mut env);
    }
    let handler = config.handlers.get(&sandbox.config.handler);
    let asked = &container.config;
    let unconfined = asked.privileged || asked.seccomp == SeccompRequest::Unconfined;
    GuestSpec {
        args: process.args.clone(),
        env,
        working_dir: process.working_dir.clone(),
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.groups.clone(),
        hostname: sandbox.hostname.clone(),
        domainname: sysctls::domain_name(&sandbox.config.sysctls).unwrap_or_default().to_owned(),
        root_readonly: container.config.readonly_rootfs,
        termination_message_path: process.termination_message_path.clone(),
        host_network: sandbox.config.host_network(),
        max_open_files: config.limits.max_open_files,
        host_ipc: sandbox.config.namespaces.ipc == NamespaceMode::Node,
        // A pod on the node's network has the node's host name, as everywhere.
        host_uts: sandbox.config.host_network(),
        stdin_once: container.config.stdin_once,
        procfs: handler.is_some_and(|handler| handler.procfs),
        masked_paths: container.config.masked_paths.clone(),
        readonly_paths: container.config.readonly_paths.clone(),
        seccomp_programs: process.seccomp.iter().map(|program| program.0.clone()).collect(),
        seccomp_unconfined: unconfined && handler.is_some_and(|handler| handler.seccomp == Seccomp::AsAsked),
        egress: egress::lists(handler, &sandbox.config.annotations),
        capability_bounding: capabilities::bounding(&asked.capabilities),
        // A capability of the pod's user namespace is none on the node's network.
        no_low_ports: sandbox.config.user_namespace.is_some() || !capabilities::keeps_low_ports(&asked.capabilities),
        ..GuestSpec::default()
    }
}

/// What containerd says of a terminal where the container says nothing.
pub fn name_terminal(env: &mut Vec<String>) {
    if !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
}

/// Kubernetes: `command` takes the place of the entrypoint, and the image's arguments go with it; `args` take the place of those.
fn arguments(config: &ContainerConfig, image: &ImageDefaults) -> Result<Vec<String>, SpecError> {
    let mut args = Vec::new();
    if !config.command.is_empty() {
        args.extend_from_slice(&config.command);
        args.extend_from_slice(&config.args);
    } else {
        args.extend_from_slice(&image.entrypoint);
        // The only module of an artifact stands for the entrypoint that it has not.
        if args.is_empty()
            && let Some(module) = &image.only_module
        {
            args.push(module.path.to_string_lossy().into_owned());
        }
        args.extend_from_slice(if config.args.is_empty() { &image.cmd } else { &config.args });
    }
    match args.first() {
        None if image.choice.is_empty() => Err(EntrypointError::NoCommand.into()),
        None => {
            // Some twenty are enough to see how they are named.
            let names: Vec<String> = image.choice.iter().take(20).map(|path| path.display().to_string()).collect();
            Err(EntrypointError::Several(names.join(", ")).into())
        }
        Some(_) => args.into_iter().map(|argument| checked("argument", argument)).collect(),
    }
}

/// The default PATH, HOSTNAME and HOME, then the image's, then the container's; of one name the last one counts.
fn environment(
    config: &ContainerConfig,
    image: &ImageDefaults,
    hostname: &str,
    home: Option<&str>,
) -> Result<Vec<String>, SpecError> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value.to_owned(),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", DEFAULT_PATH);
    set("HOSTNAME", hostname);
    if let Some(home) = home {
        set("HOME", home);
    }
    for entry in &image.env {
        // Images with an entry that has no value exist; Docker leaves it out.
        if let Some((name, value)) = entry.split_once('=') {
            set(name, value);
        }
    }
    for (name, value) in &config.envs {
        if name.is_empty() || name.contains('=') {
            return Err(SpecError::Field { field: "environment variable", value: name.clone(), reason: "has no valid name" });
        }
        set(name, value);
    }
    env.into_iter().map(|(name, value)| checked("environment variable", format!("{name}={value}"))).collect()
}

fn working_dir(asked: &str, image: &str) -> Result<String, SpecError> {
    let directory = if asked.is_empty() { image } else { asked };
    let directory = if directory.starts_with('/') { directory.to_owned() } else { format!("/{directory}") };
    let directory = checked("working directory", directory)?;
    Ok(clean(&directory).unwrap_or(directory))
}

fn checked(field: &'static str, value: String) -> Result<String, SpecError> {
    if value.contains('\0') {
        return Err(SpecError::Field { field, value, reason: "contains a zero byte" });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::super::entrypoint::tests::{Files, module};
    use super::super::metadata::{UserRequest, example, example_config};
    use super::*;

    fn image() -> ImageDefaults {
        ImageDefaults {
            entrypoint: vec!["/bin/app".into()],
            cmd: vec!["serve".into()],
            env: vec!["PATH=/bin".into(), "A=image".into(), "NOVALUE".into()],
            working_dir: "/srv".into(),
            ..ImageDefaults::default()
        }
    }

    fn composed(config: &ContainerConfig, image: &ImageDefaults) -> Result<ProcessSpec, SpecError> {
        let tree = Files::of(&[("/bin/app", module("/bin/app")), ("/bin/other", module("/bin/other"))]);
        compose(config, image, "web", &tree)
    }

    #[test]
    fn command_and_args_are_composed_as_kubernetes_does() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (command, args, wanted) in [
            (vec![], vec![], vec!["/bin/app", "serve"]),
            (vec![], vec!["x"], vec!["/bin/app", "x"]),
            (vec!["other"], vec![], vec!["other"]),
            (vec!["other", "-c"], vec!["x"], vec!["other", "-c", "x"]),
        ] {
            let config = ContainerConfig { command: list(&command), args: list(&args), ..example_config() };
            assert_eq!(composed(&config, &image()).unwrap().args, list(&wanted));
        }
        let nothing = ImageDefaults { entrypoint: Vec::new(), cmd: Vec::new(), ..image() };
        assert_eq!(composed(&example_config(), &nothing), Err(EntrypointError::NoCommand.into()));
    }

    fn only_module() -> Module {
        Module { path: "/app.wasm".into(), digest: "digest of /app.wasm".into() }
    }

    #[test]
    fn a_bare_artifact_runs_its_only_module_with_the_args() {
        let artifact = ImageDefaults { only_module: Some(only_module()), ..ImageDefaults::default() };
        let config = ContainerConfig { args: vec!["-v".into()], ..example_config() };
        let spec = composed(&config, &artifact).unwrap();
        assert_eq!(spec.args, ["/app.wasm", "-v"]);
        assert_eq!(spec.module_digest, "digest of /app.wasm");
        let config = ContainerConfig { command: vec!["anything".into()], ..config };
        let spec = composed(&config, &artifact).unwrap();
        assert_eq!((spec.args, spec.module), (vec!["anything".to_owned(), "-v".to_owned()], "/app.wasm".into()));
    }

    #[test]
    fn an_artifact_of_several_modules_runs_the_one_that_the_command_names() {
        let choice = vec!["/bin/app".into(), "/bin/other".into()];
        let artifact = ImageDefaults { entrypoint: Vec::new(), cmd: Vec::new(), choice, ..image() };
        let said = composed(&example_config(), &artifact).unwrap_err().to_string();
        assert!(said.ends_with("as its command: /bin/app, /bin/other"), "{said}");
        let config = ContainerConfig { command: vec!["/bin/other".into()], ..example_config() };
        assert_eq!(composed(&config, &artifact).unwrap().module, PathBuf::from("/bin/other"));
    }

    #[test]
    fn the_environment_is_the_images_under_the_containers() {
        let config = ContainerConfig {
            envs: vec![("B".into(), "1".into()), ("A".into(), "pod".into()), ("B".into(), "2".into())],
            ..example_config()
        };
        assert_eq!(composed(&config, &image()).unwrap().env, ["PATH=/bin", "HOSTNAME=web", "A=pod", "B=2"]);
        let bare = ImageDefaults { env: Vec::new(), ..image() };
        assert_eq!(composed(&example_config(), &bare).unwrap().env[0], format!("PATH={DEFAULT_PATH}"));
    }

    #[test]
    fn what_no_process_can_be_given_is_refused() {
        for config in [
            ContainerConfig { envs: vec![("A=B".into(), String::new())], ..example_config() },
            ContainerConfig { envs: vec![(String::new(), String::new())], ..example_config() },
            ContainerConfig { args: vec!["a\0b".into()], ..example_config() },
            ContainerConfig { working_dir: "/a\0".into(), ..example_config() },
        ] {
            assert!(matches!(composed(&config, &image()), Err(SpecError::Field { .. })));
        }
    }

    #[test]
    fn the_working_directory_is_absolute() {
        for (asked, wanted) in [("", "/srv"), ("/a/../b", "/b"), ("rel", "/rel")] {
            let config = ContainerConfig { working_dir: asked.into(), ..example_config() };
            assert_eq!(composed(&config, &image()).unwrap().working_dir, wanted);
        }
        let bare = ImageDefaults { working_dir: String::new(), ..image() };
        assert_eq!(composed(&example_config(), &bare).unwrap().working_dir, "/");
    }

    #[test]
    fn user_and_home_come_from_the_images_passwd() {
        let image = ImageDefaults { user: "me".into(), passwd: "me:x:7:8::/home/me:\n".into(), ..image() };
        let spec = composed(&example_config(), &image).unwrap();
        assert_eq!((spec.user.uid, spec.user.gid), (7, 8));
        assert!(spec.env.contains(&"HOME=/home/me".to_owned()));
        let config = ContainerConfig { user: UserRequest { gid: Some(1), ..UserRequest::default() }, ..example_config() };
        assert!(matches!(composed(&config, &image), Err(SpecError::User(_))));
    }

    #[test]
    fn the_termination_message_path_is_the_kubelets() {
        let mut config = example_config();
        config.annotations.insert(TERMINATION_MESSAGE_PATH.into(), "/dev/termination-log".into());
        assert_eq!(composed(&config, &image()).unwrap().termination_message_path, "/dev/termination-log");
    }

    #[test]
    fn a_pod_on_the_nodes_network_has_the_nodes_host_name() {
        let mut sandbox = crate::sandbox::metadata::example("s");
        let container = example("c", "s");
        let spec = guest_spec(&container, &sandbox, &Config::default());
        assert!(!spec.host_network && !spec.host_uts && spec.hostname == "web");
        sandbox.config.namespaces.network = NamespaceMode::Node;
        let spec = guest_spec(&container, &sandbox, &Config::default());
        assert!(spec.host_network && spec.host_uts);
    }
}
