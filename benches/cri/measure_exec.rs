//! Looking into a pod: ExecSync of a program that does nothing, and how fast bytes come through exec and port-forward, with
//! crictl as the client of both runtimes.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cri_wasm::proto::runtime::v1 as cri;
use rustix::thread::LinkNameSpaceType;

use crate::images;
use crate::life::{Network, Pod};
use crate::measure::{Bench, say};
use crate::node::Node;
use crate::stats::{Cell, millis};

/// Where the programs are mounted.
const PROGRAMS: &str = "/programs";

/// Bytes that are moved.
const BYTES: usize = 200 << 20;

/// How long crictl's port-forward may take to listen.
const LISTENING: Duration = Duration::from_secs(10);

impl Bench<'_> {
    /// ExecSync, and throughput.
    pub fn execs(&mut self) -> anyhow::Result<()> {
        say("looking into pods");
        self.table.section("Looking into a pod in the node's network");
        let mut pods = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let directory = self.place.directory(&format!("programs-{number}"))?;
            let programs = if number == 0 { images::wasm_programs()? } else { images::native_programs(&directory)? };
            for (name, bytes) in programs {
                let path = directory.join(name);
                std::fs::write(&path, bytes)?;
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            }
            node.mounts.push((directory, PROGRAMS));
            let launched = node.launch_pod(Network::Node);
            node.mounts.pop();
            pods.push(launched?.0);
        }
        let mut times = vec![Vec::new(); pods.len()];
        for turn in 0..self.plan.execs + 3 {
            for ((node, pod), times) in self.nodes.iter().zip(&pods).zip(&mut times) {
                let took = exec_true(node, pod)?;
                // The first ones compile and fill caches.
                if turn >= 3 {
                    times.push(took);
                }
            }
        }
        self.table.row("ExecSync of a program that does nothing", "ms", None, times.into_iter().map(Cell::of).collect());
        self.throughput(&pods)?;
        for (node, pod) in self.nodes.iter().zip(&pods) {
            node.end_pod(pod)?;
        }
        Ok(())
    }

    fn throughput(&mut self, pods: &[Pod]) -> anyhow::Result<()> {
        let Some(crictl) = images::crictl() else {
            let reason = "crictl is not there (tests/tools)".to_owned();
            self.table.row("200 MB through exec's stdout", "ms", None, vec![Cell::Missing(reason)]);
            return Ok(());
        };
        type Through = fn(&Path, &Node, &Pod) -> anyhow::Result<f64>;
        let ways: [(&str, Through); 2] =
            [("200 MB through exec's stdout, with crictl", exec_out), ("200 MB through port-forward, with crictl", forward)];
        for (name, through) in ways {
            say(name);
            let mut times = vec![Vec::new(); pods.len()];
            for _ in 0..self.plan.transfers {
                for ((node, pod), times) in self.nodes.iter().zip(pods).zip(&mut times) {
                    times.push(inside(self.place.netns.as_deref(), || through(&crictl, node, pod))?);
                }
            }
            self.table.row(name, "ms", None, times.into_iter().map(Cell::of).collect());
        }
        Ok(())
    }
}

/// Runs `work`, and all that it starts, in the network in which the daemons are.
fn inside<T: Send>(netns: Option<&Path>, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let netns = netns.map(std::fs::File::open).transpose()?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(netns) = netns {
                rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            work()
        });
        thread.join().map_err(|_| anyhow::anyhow!("the thread of a transfer panicked"))?
    })
}

fn exec_true(node: &Node, pod: &Pod) -> anyhow::Result<f64> {
    let request = cri::ExecSyncRequest { container_id: pod.container.clone(), cmd: vec![format!("{PROGRAMS}/true")], timeout: 0 };
    let begin = Instant::now();
    let done = node.client.exec_sync(request)?;
    let took = millis(begin.elapsed());
    if done.exit_code != 0 {
        bail!("{}: exit code {}: {}", node.title, done.exit_code, String::from_utf8_lossy(&done.stderr));
    }
    Ok(took)
}

fn command(crictl: &Path, node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new(crictl);
    command.args(["--config", "/dev/null", "-r"]).arg(format!("unix://{}", node.socket.display())).args(arguments);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn exec_out(crictl: &Path, node: &Node, pod: &Pod) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let mut client =
        command(crictl, node, &["exec", &pod.container, &format!("{PROGRAMS}/out")]).stdout(Stdio::piped()).spawn()?;
    let moved = client.stdout.take().map_or(Ok(0), |mut output| std::io::copy(&mut output, &mut std::io::sink()))?;
    let status = client.wait()?;
    let took = millis(begin.elapsed());
    if moved != BYTES as u64 || !status.success() {
        bail!("{}: {moved} of {BYTES} bytes came through exec, and crictl ended with {status}", node.title);
    }
    Ok(took)
}

/// A server of the bench's own, in the node's network as the pod is, sends to whoever connects.
fn forward(crictl: &Path, node: &Node, pod: &Pod) -> anyhow::Result<f64> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let port = server.local_addr()?.port();
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut peer, _) = server.accept()?;
        let chunk = vec![0; 1 << 20];
        (0..BYTES / chunk.len()).try_for_each(|_| peer.write_all(&chunk))
    });
    let local = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut client =
        Ended(command(crictl, node, &["port-forward", &pod.id, &format!("{local}:{port}")]).stdout(Stdio::null()).spawn()?);
    let begin = Instant::now();
    let mut stream = loop {
        match std::net::TcpStream::connect(("127.0.0.1", local)) {
            Ok(stream) => break stream,
            Err(error) if begin.elapsed() > LISTENING => return Err(error).context("crictl port-forward does not listen"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let begin = Instant::now();
    let moved = std::io::copy(&mut stream, &mut std::io::sink())?;
    let took = millis(begin.elapsed());
    client.0.kill()?;
    sender.join().ok().context("the server panicked")??;
    if moved != BYTES as u64 {
        bail!("{}: {moved} of {BYTES} bytes came through port-forward", node.title);
    }
    Ok(took)
}

/// A process that does not outlive what it is for.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
