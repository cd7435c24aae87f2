//! `cri-wasm run`: one guest, through the CRI socket, as a kubelet would run it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::client::{Client, has_exited, plain};
use super::follow::{Follower, feed};
use super::private::PrivateDaemon;
use super::registry::Registry;
use super::serve_http::Served;
use crate::container::tuning;
use crate::proto::runtime::v1::{
    AttachRequest, ContainerConfig, ContainerMetadata, ContainerStatusRequest, CreateContainerRequest, ImageSpec, Int64Value,
    KeyValue, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
    RunPodSandboxRequest, StartContainerRequest, StopContainerRequest,
};

/// How often a running guest's log and state are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// `run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Reference of an image, or a .wasm or .wat file
    image: String,
    /// Arguments of the guest, after `--`
    #[arg(last = true)]
    args: Vec<String>,
    /// Environment variable; NAME alone takes the value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Directory or file of the host
    #[arg(long, short, value_name = "HOST:GUEST[:ro]")]
    mount: Vec<String>,
    /// Memory limit, such as 64Mi or 1G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<i64>,
    /// CPU limit in cores, such as 0.5
    #[arg(long, value_name = "CORES")]
    cpus: Option<f64>,
    /// User, and group, of the guest's process
    #[arg(long, short, value_name = "UID[:GID]", value_parser = parse_user)]
    user: Option<(i64, Option<i64>)>,
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Program in the image, instead of its own
    #[arg(long, value_name = "PATH")]
    entrypoint: Option<String>,
    /// Host name that the guest sees
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// No writes to the root file system
    #[arg(long)]
    read_only: bool,
    /// Give the pod a network of its own (through the node's CNI configuration) instead of the host's
    #[arg(long)]
    pod_network: bool,
    /// Give the guest a terminal, joined to this one
    #[arg(long, short)]
    tty: bool,
    /// Call this exported function of a reactor or a library and print what it returns; the arguments after `--` are its
    /// arguments. Of a component also as a call: 'add(1, 2)'
    #[arg(long, value_name = "NAME")]
    invoke: Option<String>,
    /// Runtime handler
    #[arg(long, default_value = "")]
    handler: String,
    /// Socket of the daemon [default: the node's, if it answers; else a private daemon]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// It is a service.
    #[arg(skip)]
    served: Option<Served>,
}

/// Serves what the arguments name.
pub(super) fn serve(mut arguments: RunArgs, served: Served) -> anyhow::Result<ExitCode> {
    arguments.env.push(format!("CRI_WASM_HTTP_ADDR={}", served.address));
    arguments.served = Some(served);
    run(arguments)
}

/// Runs the command on a runtime of its own.
pub(super) fn run(arguments: RunArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        if let Some(socket) = &arguments.socket {
            return guest(&mut Client::connect(socket).await?, &arguments).await;
        }
        let node = crate::config::Config::load(None, crate::config::Overrides::default())?;
        if let Ok(mut client) = Client::connect(&node.socket()).await {
            return guest(&mut client, &arguments).await;
        }
        let (daemon, mut client) = PrivateDaemon::start().await?;
        let result = guest(&mut client, &arguments).await;
        daemon.stop().await?;
        result
    })?
}

async fn guest(client: &mut Client, arguments: &RunArgs) -> anyhow::Result<ExitCode> {
    let file = Path::new(&arguments.image);
    // A file on the desk goes through a registry too: it is checked and compiled as any image is.
    let (_registry, reference) = if file.is_file() {
        let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let registry = Registry::start().await?;
        let name = name_of(file);
        let reference = registry.add(&name, bytes);
        (Some(registry), reference)
    } else if arguments.image.ends_with(".wasm") || arguments.image.ends_with(".wat") {
        bail!("there is no file {}", arguments.image);
    } else {
        (None, arguments.image.clone())
    };
    let image = client.ensure_image(&reference).await?;
    let logs = tempfile::Builder::new().prefix("cri-wasm-run-").tempdir()?;
    let sandbox = sandbox_config(arguments, logs.path());
    let request = RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: arguments.handler.clone() };
    let pod = client.runtime.run_pod_sandbox(request).await.map_err(plain)?.into_inner().pod_sandbox_id;
    let result = container(client, arguments, &pod, sandbox, image, logs.path()).await;
    client.remove_pod(&pod).await?;
    if let Some(file) = file.is_file().then_some(&reference) {
        let image = ImageSpec { image: file.clone(), ..ImageSpec::default() };
        client.images.remove_image(crate::proto::runtime::v1::RemoveImageRequest { image: Some(image) }).await.map_err(plain)?;
    }
    result
}

async fn container(
    client: &mut Client,
    arguments: &RunArgs,
    pod: &str,
    sandbox: PodSandboxConfig,
    image: String,
    logs: &Path,
) -> anyhow::Result<ExitCode> {
    let stdin = arguments.served.is_none() && (arguments.tty || !std::io::stdin().is_terminal());
    let config = ContainerConfig { tty: arguments.tty, ..container_config(arguments, image, stdin)? };
    let request = CreateContainerRequest { pod_sandbox_id: pod.to_owned(), config: Some(config), sandbox_config: Some(sandbox) };
    let id = client.runtime.create_container(request).await.map_err(plain)?.into_inner().container_id;
    if stdin && !arguments.tty {
        let info = info(client, &id).await?;
        let fifo =
            info.get("stdin").and_then(|path| path.as_str()).context("the daemon does not say where standard input goes")?;
        feed(fifo.to_owned());
    }
    if arguments.served.is_some() && !serves(client, &id).await? {
        bail!("{} does not answer HTTP requests; `cri-wasm run` runs commands", arguments.image);
    }
    let mut interrupted = std::pin::pin!(interrupted()?);
    client.runtime.start_container(StartContainerRequest { container_id: id.clone() }).await.map_err(plain)?;
    if let Some(served) = &arguments.served {
        // It was started when it listened.
        eprintln!("cri-wasm: serving {} on {}; ^C ends it", arguments.image, served.url());
    }
    if arguments.tty {
        let ended = tokio::select! {
            joined = joined(client, &id) => joined?,
            code = &mut interrupted => return Ok(code),
        };
        if ended {
            return exit_code(client, &id).await;
        }
    }
    let mut follower = Follower::new(logs.join("run.log"));
    loop {
        let status = client.status(&id).await?;
        // Read after the state: everything is in the log before the end is told.
        follower.show()?;
        if has_exited(&status) {
            return exit_code(client, &id).await;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            code = &mut interrupted => match &arguments.served {
                Some(served) => return drained(client, &id, served, &mut follower).await,
                None => return Ok(code),
            },
        }
    }
}

/// Whether the container is of a component that answers HTTP requests.
async fn serves(client: &mut Client, id: &str) -> anyhow::Result<bool> {
    let info = info(client, id).await?;
    Ok(info.get("world").and_then(|world| world.as_str()) == Some("http"))
}

/// What the daemon tells of a container beyond its status.
async fn info(client: &mut Client, id: &str) -> anyhow::Result<serde_json::Value> {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let info = client.runtime.container_status(request).await.map_err(plain)?.into_inner().info;
    Ok(serde_json::from_str(info.get("info").map_or("{}", String::as_str))?)
}

/// Has a service end what it is at, and waits for that; whoever wants it again ends it at once.
async fn drained(client: &mut Client, id: &str, served: &Served, follower: &mut Follower) -> anyhow::Result<ExitCode> {
    let mut runtime = client.runtime.clone();
    let timeout = i64::try_from(served.grace.as_secs())?;
    let request = StopContainerRequest { container_id: id.to_owned(), timeout };
    let mut again = std::pin::pin!(interrupted()?);
    let mut stopped = std::pin::pin!(runtime.stop_container(request));
    loop {
        tokio::select! {
            result = &mut stopped => {
                result.map_err(plain)?;
                let code = exit_code(client, id).await;
                follower.show()?;
                return code;
            }
            () = tokio::time::sleep(LOOK) => follower.show()?,
            code = &mut again => return Ok(code),
        }
    }
}

/// Waits for whoever wants this to end; what was started is taken down then, and this is the exit code.
fn interrupted() -> anyhow::Result<impl Future<Output = ExitCode>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        // As a shell tells of signals: 128 and their number.
        tokio::select! {
            _ = interrupt.recv() => ExitCode::from(130),
            _ = terminate.recv() => ExitCode::from(143),
            _ = hang_up.recv() => ExitCode::from(129),
        }
    })
}

/// Joins this terminal to the guest's. `false`: it had ended before that, and what it wrote is in its log.
async fn joined(client: &mut Client, id: &str) -> anyhow::Result<bool> {
    let request = AttachRequest { container_id: id.to_owned(), stdin: true, stdout: true, tty: true, stderr: false };
    match client.runtime.attach(request).await {
        Ok(answer) => super::terminal::join(&answer.into_inner().url).await,
        Err(_) if has_exited(&client.status(id).await?) => Ok(false),
        Err(status) => Err(plain(status)),
    }
}

/// Waits for the end, which comes after that of the streams.
async fn exit_code(client: &mut Client, id: &str) -> anyhow::Result<ExitCode> {
    loop {
        let status = client.status(id).await?;
        if has_exited(&status) {
            return Ok(ExitCode::from(u8::try_from(status.exit_code & 0xff).unwrap_or(1)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn sandbox_config(arguments: &RunArgs, logs: &Path) -> PodSandboxConfig {
    let network = if arguments.pod_network { NamespaceMode::Pod } else { NamespaceMode::Node };
    let options = NamespaceOption { network: network.into(), ..NamespaceOption::default() };
    let unique = format!("run-{}", std::process::id());
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: unique.clone(), uid: unique, namespace: "default".to_owned(), attempt: 0 }),
        hostname: arguments.hostname.clone().unwrap_or_default(),
        log_directory: logs.to_string_lossy().into_owned(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

fn container_config(arguments: &RunArgs, image: String, stdin: bool) -> anyhow::Result<ContainerConfig> {
    const PERIOD: i64 = 100_000;
    let number = |value: i64| Int64Value { value };
    let mut envs = Vec::new();
    for variable in &arguments.env {
        let (key, value) = match variable.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (variable.clone(), std::env::var(variable).with_context(|| format!("{variable} is not set here"))?),
        };
        envs.push(KeyValue { key, value: value.into_bytes() });
    }
    let mounts = arguments.mount.iter().map(|text| parse_mount(text)).collect::<Result<_, _>>()?;
    let options = NamespaceOption {
        network: if arguments.pod_network { NamespaceMode::Pod } else { NamespaceMode::Node }.into(),
        ..NamespaceOption::default()
    };
    let (uid, gid) = arguments.user.map_or((None, None), |(uid, gid)| (Some(uid), gid));
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: "run".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image, ..ImageSpec::default() }),
        command: arguments.entrypoint.iter().cloned().collect(),
        args: arguments.args.clone(),
        working_dir: arguments.workdir.clone().unwrap_or_default(),
        envs,
        mounts,
        log_path: "run.log".to_owned(),
        annotations: arguments.invoke.iter().map(|name| (tuning::INVOKE.to_owned(), name.clone())).collect(),
        stdin,
        stdin_once: stdin,
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                memory_limit_in_bytes: arguments.memory.unwrap_or(0),
                cpu_period: if arguments.cpus.is_some() { PERIOD } else { 0 },
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_precision_loss,
                    reason = "a number of microseconds well within both"
                )]
                cpu_quota: arguments.cpus.map_or(0, |cores| (cores * PERIOD as f64) as i64),
                ..LinuxContainerResources::default()
            }),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(options),
                run_as_user: uid.map(number),
                run_as_group: gid.map(number),
                readonly_rootfs: arguments.read_only,
                ..LinuxContainerSecurityContext::default()
            }),
        }),
        ..ContainerConfig::default()
    })
}

/// The file's name as a repository's: lower-case letters, digits and single separators.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String = stem.chars().filter(char::is_ascii_alphanumeric).collect();
    if name.is_empty() { "guest".to_owned() } else { name }
}

fn parse_mount(text: &str) -> anyhow::Result<Mount> {
    let mut parts = text.split(':');
    let (Some(host), Some(guest), mode, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        bail!("--mount {text}: it is HOST:GUEST or HOST:GUEST:ro");
    };
    let readonly = match mode {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(other) => bail!("--mount {text}: {other} is neither ro nor rw"),
    };
    let host = std::path::absolute(host)?;
    if !guest.starts_with('/') {
        bail!("--mount {text}: {guest} must be an absolute path");
    }
    Ok(Mount { host_path: host.to_string_lossy().into_owned(), container_path: guest.to_owned(), readonly, ..Mount::default() })
}

fn parse_size(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit: i64 = match text.get(digits.len()..).unwrap_or_default() {
        "" | "B" => 1,
        "k" | "K" => 1000,
        "Ki" => 1 << 10,
        "M" => 1_000_000,
        "Mi" => 1 << 20,
        "G" => 1_000_000_000,
        "Gi" => 1 << 30,
        other => return Err(format!("{other} is no unit; k, Ki, M, Mi, G and Gi are")),
    };
    let number: i64 = digits.parse().map_err(|_| format!("{text} is no size"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text} is too large"))
}

fn parse_user(text: &str) -> Result<(i64, Option<i64>), String> {
    let number = |text: &str| text.parse::<u32>().map(i64::from).map_err(|_| format!("{text} is no numeric id"));
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("64Mi"), Ok(64 << 20));
        assert_eq!(parse_size("5"), Ok(5));
        assert!(parse_size("5 apples").is_err());
        assert!(parse_size("99999999999Gi").is_err());
    }

    #[test]
    fn mounts_are_absolute_in_the_guest() {
        let mount = parse_mount("/etc:/data:ro").unwrap();
        assert_eq!((mount.host_path.as_str(), mount.container_path.as_str(), mount.readonly), ("/etc", "/data", true));
        assert!(parse_mount("/etc:data").is_err());
        assert!(parse_mount("/etc").is_err());
        assert!(parse_mount("/etc:/data:rx").is_err());
    }

    #[test]
    fn any_file_name_becomes_a_repository() {
        assert_eq!(name_of(Path::new("/x/My Guest_2.wasm")), "myguest2");
        assert_eq!(name_of(Path::new("/x/---.wasm")), "guest");
    }
}
