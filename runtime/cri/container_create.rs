//! CreateContainer: image held → spec composed and checked → record. Nothing runs, and nothing is acquired but the record and,
//! where a client wants to write to it, the FIFO of standard input.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use images::{ArtifactKind, FileKind, Image, Images, LookupError};
use wasm_host::protocol::{CodeKind, GuestSpec};

use super::error::Error;
use super::request_container;
use crate::cgroup::{CgroupPath, unit};
use crate::container::entrypoint::{Module, Node, SCRIPT_LINE, Tree};
use crate::container::spec::{self, ImageDefaults};
use crate::container::tuning;
use crate::container::{
    Container, ContainerConfig, ContainerMetadata, ImageFiles, ImageVolume, ProcessSpec, ResolvedMount, Resources,
    SeccompRequest, capabilities, mounts, release, seccomp, signals,
};
use crate::proto::runtime::v1::{CreateContainerRequest, CreateContainerResponse};
use crate::sandbox::{Sandbox, SandboxState, UserNamespace, files};
use crate::state::Runtime;
use crate::store::{ContainerId, Reservation, Reserve, Table};

/// The largest /etc/passwd or /etc/group that is read. Real ones have a few kB.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// Longest name and longest path, with its final zero, that the kernel takes (limits.h).
const NAME_BYTES: usize = 255;
const PATH_BYTES: usize = 4096;

pub(super) async fn create(runtime: Arc<Runtime>, request: CreateContainerRequest) -> Result<CreateContainerResponse, Error> {
    let sandbox = runtime.sandboxes.find(&request.pod_sandbox_id).map_err(Error::lookup("sandbox", &request.pod_sandbox_id))?;
    let config = request_container::config(request.config)?;
    let name = config.reserved_name(sandbox.id());
    loop {
        match runtime.container_names.reserve(&name) {
            Reserve::Reserved(reservation) => {
                let creation = make(Arc::clone(&runtime), sandbox, config, reservation);
                let id = runtime.run_to_end(creation).await??;
                runtime.container_names.claim(&name);
                return Ok(CreateContainerResponse { container_id: id.to_string() });
            }
            Reserve::InProgress(pending) => pending.wait().await,
            Reserve::Unclaimed(id) => {
                if !runtime.containers.get(&id).is_some_and(|container| container.metadata().config == config) {
                    return Err(Error::NameTaken { what: "container", name, id });
                }
                tracing::info!(container = id, "a container made for a caller that went away is handed to its retry");
                runtime.container_names.claim(&name);
                return Ok(CreateContainerResponse { container_id: id });
            }
            Reserve::Taken(id) => return Err(Error::NameTaken { what: "container", name, id }),
        }
    }
}

async fn make(
    runtime: Arc<Runtime>,
    sandbox: Arc<Sandbox>,
    config: ContainerConfig,
    reservation: Reservation,
) -> Result<ContainerId, Error> {
    // The sandbox can be neither stopped nor removed until the container is there for it to find.
    let _operation = sandbox.operation.read().await;
    require_ready(&sandbox)?;
    check_ids(&config, sandbox.metadata().config.user_namespace.as_ref())?;
    let image = runtime
        .images
        .get(&config.image.image)
        .ok_or_else(|| Error::NotFound { what: "image", id: config.image.image.clone() })?;
    let hold = runtime.images.hold(&image.id).map_err(|_| Error::NotFound { what: "image", id: image.id.clone() })?;

    let mut holds = vec![hold];
    let etc = files::directory(&runtime.config.state, sandbox.id());
    let (images, image_of_spec, sandbox_of_spec) = (runtime.images.clone(), Arc::clone(&image), Arc::clone(&sandbox));
    let composed = tokio::task::spawn_blocking(move || {
        let composed = compose(&images, &image_of_spec, &config, &sandbox_of_spec.metadata().hostname, &etc);
        composed.map(|(process, mounts)| (config, process, mounts))
    });
    let ids = sandbox.metadata().config.user_namespace;
    let (config, process, mounts) =
        composed.await.map_err(|_| Error::Unavailable("the daemon is shutting down".to_owned()))??;
    check_user(&process, ids.as_ref())?;
    for volume in mounts.iter().filter_map(|mount| mount.image.as_ref()) {
        // It may have been removed since it was looked at.
        let gone = |_| Error::NotFound { what: "image", id: volume.image_id.clone() };
        holds.push(runtime.images.hold(&volume.image_id).map_err(gone)?);
    }
    // Found in the cache, as it was compiled at the pull. Looked at now so that a guest that cannot run is refused here.
    let code = runtime.images.code(&process.module_digest).await?;
    let handler = &sandbox.metadata().config.handler;
    let invoked = tuning::invoked(&config, sandbox.metadata()).is_some();
    let kind = super::container_start::code_kind(&runtime.config, handler, &process.module, &code.report, invoked)?;

    let id = ContainerId::generate();
    let cgroup = unit::below(&CgroupPath::recorded(&sandbox.metadata().cgroup_parent)?, id.as_str())?.to_string();
    let metadata = ContainerMetadata {
        id: id.clone(),
        sandbox: sandbox.id().clone(),
        created_at: wasm_host::protocol::now(),
        image_id: image.id.clone(),
        lower_dirs: runtime.images.lower_dirs(&image),
        image_ref: image.repo_digests.first().unwrap_or(&image.id).clone(),
        image_name: image_name(&config, &image),
        log_path: log_path(&sandbox.metadata().config.log_directory, &config.log_path)?,
        stop_signal: stop_signal(&config, &image)?,
        process,
        mounts,
        cgroup,
        config,
    };
    let mut asked = GuestSpec { env: metadata.process.env.clone(), ..GuestSpec::default() };
    asked.set_kind(kind);
    super::container_start::tune(&runtime, &metadata, &sandbox, &mut asked)?;
    if kind == CodeKind::ComponentHttp {
        super::container_start::served(&runtime, &metadata, &sandbox, &Resources::default())?;
    }
    let stdin = metadata.config.stdin;
    let container = Container::create(metadata, holds, Arc::clone(&runtime.store))?;
    if stdin && let Err(error) = make_fifo(&runtime, &container) {
        release::release(&runtime, &container).await?;
        runtime.store.delete(Table::Containers, id.as_str())?;
        return Err(error);
    }
    runtime.add_container(&sandbox, container);
    reservation.commit(id.as_str());
    tracing::info!(container = %id, sandbox = %sandbox.id(), image = %image.id, "the container is created");
    Ok(id)
}

/// What a container says of ids must be what its pod says.
fn check_ids(config: &ContainerConfig, of_the_pod: Option<&UserNamespace>) -> Result<(), Error> {
    if config.user_namespace.is_some() && config.user_namespace.as_ref() != of_the_pod {
        return Err(Error::Invalid("the user namespace of a container is its pod's, and they differ".to_owned()));
    }
    let other = config.mounts.iter().find(|mount| mount.ids.is_some() && mount.ids.as_ref() != of_the_pod);
    match other {
        Some(mount) => Err(Error::Invalid(format!(
            "the mount at {:?} maps ids otherwise than the pod's user namespace",
            mount.container_path
        ))),
        None => Ok(()),
    }
}

/// A user that the pod's user namespace does not have could not run.
fn check_user(process: &ProcessSpec, ids: Option<&UserNamespace>) -> Result<(), Error> {
    let Some(ids) = ids else { return Ok(()) };
    let user = &process.user;
    let mut all = [("user", user.uid, ids.users), ("group", user.gid, ids.groups)]
        .into_iter()
        .chain(user.groups.iter().map(|group| ("group", *group, ids.groups)));
    match all.find(|(_, id, range)| *id >= range.count) {
        Some((what, id, range)) => {
            Err(Error::Invalid(format!("the pod's user namespace has {} {what} ids, and {id} is not among them", range.count)))
        }
        None => Ok(()),
    }
}

pub(super) fn require_ready(sandbox: &Sandbox) -> Result<(), Error> {
    match sandbox.state() {
        SandboxState::Ready => Ok(()),
        state => Err(Error::Precondition(format!("sandbox {} is in state {state:?}, not Ready", sandbox.id()))),
    }
}

fn compose(
    images: &Images,
    image: &Image,
    config: &ContainerConfig,
    hostname: &str,
    etc: &Path,
) -> Result<(ProcessSpec, Vec<ResolvedMount>), Error> {
    let accounts = |path: &str| match images.read_file(image, Path::new(path), MAX_ACCOUNTS) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(LookupError::NotFound { .. } | LookupError::NotADirectory { .. } | LookupError::NotAFile { .. }) => Ok(String::new()),
        Err(error) => Err(error),
    };
    let defaults = ImageDefaults {
        entrypoint: image.config.entrypoint.clone(),
        cmd: image.config.cmd.clone(),
        env: image.config.env.clone(),
        working_dir: image.config.working_dir.clone(),
        user: image.config.user.clone(),
        only_module: only_module(image),
        choice: choice(image),
        passwd: accounts("/etc/passwd")?,
        group: accounts("/etc/group")?,
    };
    let mut process = spec::compose(config, &defaults, hostname, &ImageTree { images, image })?;
    if let (SeccompRequest::Localhost(path), false) = (&config.seccomp, config.privileged) {
        process.seccomp = seccomp::load(path, capabilities::bounding(&config.capabilities))?;
    }
    let mounts = mounts::resolve(&config.mounts, etc, config.readonly_rootfs, |volume| volume_files(images, volume))?;
    Ok((process, mounts))
}

fn volume_files(images: &Images, volume: &ImageVolume) -> Result<ImageFiles, String> {
    let image = images.get(&volume.image.image).ok_or("the image is not here; it is pulled before")?;
    let view = images.subpath(&image, &volume.sub_path).map_err(|error| error.to_string())?;
    Ok(ImageFiles { image_id: image.id.clone(), places: view.places })
}

fn only_module(image: &Image) -> Option<Module> {
    let ArtifactKind::Artifact { module: Some(module) } = &image.kind else { return None };
    let file = image.wasm.iter().find(|file| file.path == *module)?;
    Some(Module { path: file.path.clone(), digest: file.digest.clone() })
}

/// What can be named as the command of an artifact that has no module of its own to run.
fn choice(image: &Image) -> Vec<PathBuf> {
    match &image.kind {
        ArtifactKind::Artifact { module: None } => image.wasm.iter().map(|file| file.path.clone()).collect(),
        _ => Vec::new(),
    }
}

/// An image's files, for the search of the entrypoint.
struct ImageTree<'a> {
    images: &'a Images,
    image: &'a Image,
}

impl Tree for ImageTree<'_> {
    fn look(&self, path: &Path) -> Result<Node, String> {
        match self.images.lookup(self.image, path) {
            Ok(found) => Ok(match found.kind {
                FileKind::Wasm { digest } => Node::Wasm(Module { path: found.path, digest }),
                FileKind::Elf => Node::Native,
                FileKind::Precompiled => Node::Precompiled,
                FileKind::Script => {
                    let length = u64::try_from(SCRIPT_LINE).unwrap_or(u64::MAX);
                    let line = self.images.read_start(self.image, &found.path, length);
                    Node::Script(line.map_err(|error| error.to_string())?)
                }
                FileKind::Directory => Node::Directory,
                FileKind::Other => Node::Other,
            }),
            Err(LookupError::NotFound { .. } | LookupError::NotADirectory { .. }) => Ok(Node::Missing),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The kubelet names images by id, and shows what is answered here in the pod's status.
fn image_name(config: &ContainerConfig, image: &Image) -> String {
    let asked = &config.image.image;
    let digits = asked.strip_prefix("sha256:").unwrap_or(asked);
    let is_id = digits.len() >= 12 && image.id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(digits));
    if !is_id {
        return asked.clone();
    }
    if !config.image.user_specified.is_empty() {
        return config.image.user_specified.clone();
    }
    image.repo_tags.first().or(image.repo_digests.first()).unwrap_or(asked).clone()
}

/// The file below the pod's directory. A path that leads out of it, or that no file can have, is refused here and not when
/// the guest is to write.
fn log_path(directory: &str, path: &str) -> Result<Option<PathBuf>, Error> {
    if directory.is_empty() || path.is_empty() {
        return Ok(None);
    }
    let refused = || Error::Invalid("the log path names no file below the pod's log directory".to_owned());
    let names = || path.split('/').filter(|name| !matches!(*name, "" | "."));
    if names().next().is_none() || names().any(|name| name == ".." || name.len() > NAME_BYTES) {
        return Err(refused());
    }
    let whole = mounts::clean(&format!("{directory}/{path}")).filter(|whole| whole.len() < PATH_BYTES);
    whole.map(|whole| Some(PathBuf::from(whole))).ok_or_else(refused)
}

fn stop_signal(config: &ContainerConfig, image: &Image) -> Result<i32, Error> {
    if config.stop_signal != 0 {
        let name = crate::proto::runtime::v1::Signal::try_from(config.stop_signal).map_or("", |signal| signal.as_str_name());
        return signals::number(name)
            .ok_or_else(|| Error::Invalid(format!("the stop signal {} is not known", config.stop_signal)));
    }
    // An image with a signal that nobody knows still runs; it is stopped as any other.
    Ok(signals::number(&image.config.stop_signal).unwrap_or(libc::SIGTERM))
}

fn make_fifo(runtime: &Runtime, container: &Container) -> Result<(), Error> {
    let Some(path) = container.stdin_fifo(&runtime.config.state) else { return Ok(()) };
    let failed = |action: &'static str| {
        let path = path.clone();
        move |source: std::io::Error| Error::Io { action, path, source }
    };
    std::fs::create_dir_all(runtime.container_state(container)).map_err(failed("make the directory of"))?;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .map_err(|error| failed("make the FIFO")(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_needs_a_directory_and_a_name() {
        assert_eq!(log_path("/logs/", "app/0.log").unwrap(), Some(PathBuf::from("/logs/app/0.log")));
        assert_eq!(log_path("/logs", "/./0.log").unwrap(), Some(PathBuf::from("/logs/0.log")));
        assert_eq!(log_path("", "app/0.log").unwrap(), None);
        assert_eq!(log_path("/logs", "").unwrap(), None);
    }

    #[test]
    fn a_log_stays_below_the_pods_directory() {
        let long = "a".repeat(256);
        let deep = "a/".repeat(3000);
        for path in ["..", "../0.log", "app/../../0.log", "/", ".", "0\0.log", &long, &deep] {
            assert!(matches!(log_path("/logs", path), Err(Error::Invalid(_))), "{path:.20}");
        }
    }
}
