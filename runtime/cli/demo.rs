//! `cri-wasm demo`: the main job on embedded input, with what each step took.
//!
//! Nothing here is special: the examples are pulled from a registry on loopback by a daemon of the demo's own and run over its CRI socket,
//! by the same calls that a kubelet makes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use super::client::{Client, has_exited, plain};
use super::private::PrivateDaemon;
use super::registry::Registry;
use crate::proto::runtime::v1::{
    ContainerConfig, ContainerMetadata, ContainerStatus, ContainerStatusRequest, CreateContainerRequest, ImageSpec, KeyValue,
    LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PullImageRequest, RunPodSandboxRequest,
    StartContainerRequest,
};

/// Longest wait for a guest of the demo.
const PATIENCE: Duration = Duration::from_secs(20);

/// `demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Idle pods to run at once for the memory figure
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pods: u32,
}

/// A guest of the demo.
struct Example {
    name: &'static str,
    what: &'static str,
    wasm: &'static [u8],
    args: &'static [&'static str],
}

const EXAMPLES: &[Example] = &[
    Example {
        name: "hello",
        what: "a Rust program, WASI preview 1",
        wasm: include_bytes!("../../examples/prebuilt/hello.wasm"),
        args: &["from", "the", "demo"],
    },
    Example {
        name: "wordcount",
        what: "a C program that reads a file mounted read-only",
        wasm: include_bytes!("../../examples/prebuilt/wordcount.wasm"),
        args: &["/data/text"],
    },
    Example {
        name: "crash",
        what: "a guest that traps; the pod's status says where",
        wasm: include_bytes!(concat!(env!("OUT_DIR"), "/crash.wasm")),
        args: &[],
    },
];

const IDLE: Example = Example {
    name: "idle",
    what: "a guest that says that it is there and waits",
    wasm: include_bytes!(concat!(env!("OUT_DIR"), "/idle.wasm")),
    args: &[],
};

const TEXT: &str = "A pod is a network namespace, a cgroup and a record.\nA container is one process that runs one guest.\n";

/// Runs the demo on a runtime of its own.
pub(super) fn run(arguments: &DemoArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let begin = Instant::now();
        let (daemon, client) = PrivateDaemon::start().await?;
        println!("A private daemon answers in {} ms on {}", millis(begin.elapsed()), daemon.state().display());
        let result = Demo { client, daemon: &daemon, count: 0 }.show(arguments.pods).await;
        let begin = Instant::now();
        daemon.stop().await?;
        println!("\nThe daemon and all its files are gone, {} ms.", millis(begin.elapsed()));
        result.map(|()| ExitCode::SUCCESS)
    })?
}

struct Demo<'a> {
    client: Client,
    daemon: &'a PrivateDaemon,
    count: u32,
}

/// A started pod.
struct Pod {
    id: String,
    sandbox: PodSandboxConfig,
    container: String,
    log: std::path::PathBuf,
    steps: [Duration; 3],
    begun: Instant,
}

impl Demo<'_> {
    async fn show(&mut self, pods: u32) -> anyhow::Result<()> {
        let registry = Registry::start().await?;
        let text = self.daemon.state().join("text");
        std::fs::write(&text, TEXT)?;
        println!("\nPulled from an embedded registry and compiled:");
        let mut images = Vec::new();
        for example in EXAMPLES.iter().chain([&IDLE]) {
            images.push(self.pull(&registry, example).await?);
        }
        for (example, image) in EXAMPLES.iter().zip(&images) {
            println!("\n{}: {}", example.name, example.what);
            let pod = self.start(example, image, Some(&text)).await?;
            self.first_line(&pod).await?;
            let first = pod.begun.elapsed();
            let status = self.wait(&pod).await?;
            let [sandbox, create, start] = pod.steps.map(millis);
            println!(
                "  RunPodSandbox {sandbox} ms, CreateContainer {create} ms, StartContainer {start} ms; first line after {} ms",
                millis(first)
            );
            for line in std::fs::read_to_string(&pod.log)?.lines() {
                println!("  | {}", line.splitn(4, ' ').nth(3).unwrap_or_default());
            }
            println!("  exit {} {}", status.exit_code, status.reason);
            self.client.remove_pod(&pod.id).await?;
        }
        let idle = images.last().context("no image")?.clone();
        self.idle(&idle, pods).await
    }

    async fn pull(&mut self, registry: &Registry, example: &Example) -> anyhow::Result<String> {
        let reference = registry.add(example.name, example.wasm.to_vec());
        let spec = ImageSpec { image: reference, ..ImageSpec::default() };
        let begin = Instant::now();
        let request = PullImageRequest { image: Some(spec), ..PullImageRequest::default() };
        let image = self.client.images.pull_image(request).await.map_err(plain)?.into_inner().image_ref;
        println!("  {:<10} {:>6} kB  {:>8} ms", example.name, example.wasm.len().div_ceil(1000), millis(begin.elapsed()));
        Ok(image)
    }

    async fn start(&mut self, example: &Example, image: &str, text: Option<&std::path::Path>) -> anyhow::Result<Pod> {
        self.count += 1;
        let unique = format!("{}-{}", example.name, self.count);
        let sandbox = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: unique.clone(),
                uid: unique.clone(),
                namespace: "demo".to_owned(),
                attempt: 0,
            }),
            hostname: example.name.to_owned(),
            log_directory: self.daemon.state().join("logs").join(&unique).to_string_lossy().into_owned(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(host_network()),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        };
        let mounts = text.map(|path| Mount {
            host_path: path.to_string_lossy().into_owned(),
            container_path: "/data/text".to_owned(),
            readonly: true,
            ..Mount::default()
        });
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: example.name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() }),
            args: example.args.iter().map(ToString::to_string).collect(),
            envs: vec![KeyValue { key: "GREETING".to_owned(), value: "Good day".into() }],
            mounts: mounts.into_iter().collect(),
            log_path: "0.log".to_owned(),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(host_network()),
                    ..LinuxContainerSecurityContext::default()
                }),
                ..LinuxContainerConfig::default()
            }),
            ..ContainerConfig::default()
        };
        let begun = Instant::now();
        let request = RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: String::new() };
        let id = self.client.runtime.run_pod_sandbox(request).await.map_err(plain)?.into_inner().pod_sandbox_id;
        let run = begun.elapsed();
        let request =
            CreateContainerRequest { pod_sandbox_id: id.clone(), config: Some(config), sandbox_config: Some(sandbox.clone()) };
        let container = self.client.runtime.create_container(request).await.map_err(plain)?.into_inner().container_id;
        let create = begun.elapsed();
        self.client.runtime.start_container(StartContainerRequest { container_id: container.clone() }).await.map_err(plain)?;
        let start = begun.elapsed();
        let log = std::path::Path::new(&sandbox.log_directory).join("0.log");
        Ok(Pod { id, sandbox, container, log, steps: [run, create - run, start - create], begun })
    }

    async fn first_line(&self, pod: &Pod) -> anyhow::Result<()> {
        while std::fs::metadata(&pod.log).map_or(0, |file| file.len()) == 0 {
            if pod.begun.elapsed() > PATIENCE {
                bail!("{} wrote nothing for {} s", pod.sandbox.hostname, PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(())
    }

    async fn wait(&mut self, pod: &Pod) -> anyhow::Result<ContainerStatus> {
        loop {
            let status = self.client.status(&pod.container).await?;
            if has_exited(&status) {
                return Ok(status);
            }
            if pod.begun.elapsed() > PATIENCE {
                bail!("{} did not end within {} s", pod.sandbox.hostname, PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Many pods at once: how long each took, and what each costs while it waits.
    async fn idle(&mut self, image: &str, count: u32) -> anyhow::Result<()> {
        println!("\n{count} pods of {}: {}", IDLE.name, IDLE.what);
        let mut pods = Vec::new();
        let mut times = Vec::new();
        for _ in 0..count {
            let pod = self.start(&IDLE, image, None).await?;
            self.first_line(&pod).await?;
            times.push(pod.begun.elapsed());
            pods.push(pod);
        }
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        println!("  RunPodSandbox to first line: {} ms (median)", millis(median));
        let mut bytes = 0;
        for pod in &pods {
            bytes += self.memory_of(&pod.container).await?;
        }
        println!("  memory of one pod: {} kB (proportional, all its processes)", bytes / u64::from(count) / 1000);
        if let Some(pid) = self.daemon.pid() {
            println!("  the daemon: {} kB", pss(&pid.to_string())? / 1000);
        }
        let begin = Instant::now();
        for pod in &pods {
            self.client.remove_pod(&pod.id).await?;
        }
        println!("  stopped and removed: {} ms each", millis(begin.elapsed() / count));
        Ok(())
    }

    async fn memory_of(&mut self, container: &str) -> anyhow::Result<u64> {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
        let info = self.client.runtime.container_status(request).await.map_err(plain)?.into_inner().info;
        let info: serde_json::Value = serde_json::from_str(info.get("info").map_or("{}", String::as_str))?;
        pss(&info.get("pid").context("the daemon does not tell the guest's process id")?.to_string())
    }
}

/// Proportional set size in bytes: private memory, and of shared memory the process's part.
fn pss(pid: &str) -> anyhow::Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

fn host_network() -> NamespaceOption {
    NamespaceOption { network: NamespaceMode::Node.into(), ..NamespaceOption::default() }
}

fn millis(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}
