//! What is measured pod by pod and call by call. Lives of both runtimes alternate, so that a noisy minute meets both.

use std::time::Instant;

use cri_wasm::proto::runtime::v1 as cri;

use crate::containerd::{missing_cni, plugin_add};
use crate::images;
use crate::life::{FirstLine, Network};
use crate::node::Node;
use crate::place::Place;
use crate::plan::{Pair, Plan};
use crate::registry::Registry;
use crate::stats::{Cell, millis};
use crate::table::Table;

/// One run over one or two runtimes; the first is ours.
pub struct Bench<'a> {
    pub plan: &'a Plan,
    pub place: &'a Place,
    pub registry: &'a Registry,
    pub nodes: Vec<Node>,
    pub table: &'a mut Table,
}

/// Samples by name, in the order in which the names first came.
#[derive(Debug, Default)]
struct Series(Vec<(&'static str, Vec<f64>)>);

impl Series {
    fn add(&mut self, name: &'static str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name, vec![value])),
        }
    }

    fn take(&mut self, name: &str) -> Cell {
        let found = self.0.iter_mut().find(|(known, _)| *known == name);
        Cell::of(found.map(|(_, values)| std::mem::take(values)).unwrap_or_default())
    }
}

/// Says what goes on, as a run takes minutes.
pub fn say(text: &str) {
    eprintln!("bench: {text}");
}

impl Bench<'_> {
    /// Measures everything.
    pub fn all(&mut self) -> anyhow::Result<()> {
        self.head()?;
        for node in &mut self.nodes {
            let image = Some(cri::ImageSpec { image: node.image.clone(), ..cri::ImageSpec::default() });
            node.client.pull_image(cri::PullImageRequest { image, ..cri::PullImageRequest::default() })?;
            for _ in 0..3 {
                let (pod, _) = node.launch_pod(Network::Node)?;
                node.end_pod(&pod)?;
            }
        }
        self.lives()?;
        self.reads()?;
        self.execs()?;
        self.cni()?;
        self.bursts()?;
        self.first_starts()?;
        self.pulls()?;
        self.idle()?;
        self.foot();
        Ok(())
    }

    /// Takes the daemons down.
    pub fn finish(&mut self) {
        for node in &mut self.nodes {
            if let Err(error) = node.stop() {
                say(&format!("{}: {error:#}", node.title));
            }
        }
    }

    fn head(&mut self) -> anyhow::Result<()> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let processors = std::thread::available_parallelism()?;
        self.table.note(format!("Linux {release}, {processors} processors; load before: {}", load_average()));
        Ok(())
    }

    fn foot(&mut self) {
        self.table.note(format!("load after: {}", load_average()));
        self.table.note("ratio: containerd's figure by ours. goal: what the project promises, on 2 processors.");
        self.table.note("first line: until the line stands in the log file. PSS: private memory and a share of what is shared.");
    }

    /// Lives in one network: a series for each runtime.
    fn live(&mut self, counts: Pair, network: Network) -> anyhow::Result<Vec<Series>> {
        let most = counts.into_iter().max().unwrap_or(1);
        let mut all: Vec<Series> = self.nodes.iter().map(|_| Series::default()).collect();
        for turn in 0..most {
            for ((node, series), count) in self.nodes.iter_mut().zip(&mut all).zip(counts) {
                // Spread over all turns where it has fewer.
                if turn * count / most == (turn + 1) * count / most {
                    continue;
                }
                let (pod, launch) = node.launch_pod(network)?;
                let begin = Instant::now();
                let end = node.end_pod(&pod)?;
                // Without the bench's own preparations in between.
                series.add("whole pod life", millis(launch.first_line + begin.elapsed()));
                series.add("RunPodSandbox", millis(launch.run));
                series.add("CreateContainer", millis(launch.create));
                series.add("StartContainer", millis(launch.start));
                series.add("RunPodSandbox to first line", millis(launch.first_line));
                series.add("StopContainer", millis(end.stop_container));
                series.add("StopPodSandbox", millis(end.stop_pod));
                series.add("RemoveContainer", millis(end.remove_container));
                series.add("RemovePodSandbox", millis(end.remove_pod));
            }
        }
        Ok(all)
    }

    fn lives(&mut self) -> anyhow::Result<()> {
        say("pod lives in the node's network");
        let mut all = self.live(self.plan.lives, Network::Node)?;
        let mut row = |table: &mut Table, name: &str, goal| {
            table.row(name, "ms", goal, all.iter_mut().map(|series| series.take(name)).collect());
        };
        self.table.section("A pod in the node's network, one at a time (as a kubelet asks: cgroup, limits, two mounted files)");
        row(self.table, "RunPodSandbox to first line", Some(6.0));
        row(self.table, "whole pod life", None);
        let changing = [
            "RunPodSandbox",
            "CreateContainer",
            "StartContainer",
            "StopContainer",
            "StopPodSandbox",
            "RemoveContainer",
            "RemovePodSandbox",
        ];
        for name in changing {
            row(self.table, name, None);
        }
        Ok(())
    }

    fn reads(&mut self) -> anyhow::Result<()> {
        say("calls that only read");
        let mut cells: Vec<Series> = Vec::new();
        let names = [
            "Version",
            "Status",
            "ListPodSandbox",
            "PodSandboxStatus",
            "ListContainers",
            "ContainerStatus",
            "ImageStatus",
            "ListImages",
        ];
        for node in &mut self.nodes {
            let mut series = Series::default();
            let (pod, _) = node.launch_pod(Network::Node)?;
            for _ in 0..self.plan.reads {
                for name in names {
                    let begin = Instant::now();
                    read(node, name, &pod)?;
                    series.add(name, millis(begin.elapsed()));
                }
            }
            node.end_pod(&pod)?;
            cells.push(series);
        }
        self.table.section("Calls that only read, with one pod");
        for name in names {
            self.table.row(name, "ms", None, cells.iter_mut().map(|series| series.take(name)).collect());
        }
        Ok(())
    }

    fn cni(&mut self) -> anyhow::Result<()> {
        self.table.section("A pod with a network of its own: CNI bridge and host-local, Debian's plugins");
        if let Some(reason) = missing_cni(self.place) {
            self.table.row("RunPodSandbox to first line", "ms", Some(40.0), vec![Cell::Missing(reason)]);
            return Ok(());
        }
        say("pod lives with CNI");
        let mut adds = Vec::new();
        for number in 0..self.plan.plugin_adds {
            adds.push(millis(plugin_add(self.place, number)?));
        }
        let mut all = self.live(self.plan.cni_lives, Network::Cni)?;
        for (name, goal) in [
            ("RunPodSandbox to first line", Some(40.0)),
            ("whole pod life", None),
            ("RunPodSandbox", None),
            ("StopPodSandbox", None),
        ] {
            self.table.row(name, "ms", goal, all.iter_mut().map(|series| series.take(name)).collect());
        }
        self.table.row("of that, the bridge plugin's own ADD", "ms", None, vec![Cell::of(adds)]);
        Ok(())
    }

    fn first_starts(&mut self) -> anyhow::Result<()> {
        self.table.section("An image just pulled: a module of 5.8 MB that was never seen before");
        let module = match images::large() {
            Ok(module) => module,
            Err(reason) => {
                self.table.row("StartContainer to first line", "ms", Some(20.0), vec![Cell::Missing(reason)]);
                return Ok(());
            }
        };
        let Some(node) = self.nodes.first_mut() else { return Ok(()) };
        let (mut pulls, mut starts) = (Vec::new(), Vec::new());
        for number in 0..self.plan.first_starts {
            say("pulling and compiling 5.8 MB");
            let image = self.registry.add_wasm(&format!("large-{number}"), &images::never_seen(&module, number));
            let begin = Instant::now();
            let spec = Some(cri::ImageSpec { image: image.clone(), ..cri::ImageSpec::default() });
            node.client.pull_image(cri::PullImageRequest { image: spec, ..cri::PullImageRequest::default() })?;
            pulls.push(millis(begin.elapsed()));
            let prepared = node.prepare(Network::Node, &image)?;
            let lines = FirstLine::watch(&prepared.log)?;
            let begin = Instant::now();
            let (pod, [run, create, _]) = crate::client::block_on(node.run_later(&prepared))??;
            lines.wait(begin)?;
            starts.push(millis(begin.elapsed() - run - create));
            node.end_pod(&pod)?;
        }
        self.table.row("StartContainer to first line", "ms", Some(20.0), vec![Cell::of(starts)]);
        self.table.row("PullImage, compiling included", "ms", None, vec![Cell::of(pulls)]);
        Ok(())
    }
}

/// A call that only reads, by its name.
pub fn read(node: &Node, name: &str, pod: &crate::life::Pod) -> anyhow::Result<()> {
    let client = &node.client;
    let image = || Some(cri::ImageSpec { image: node.image.clone(), ..cri::ImageSpec::default() });
    let (pod_sandbox_id, container_id) = (pod.id.clone(), pod.container.clone());
    match name {
        "Version" => drop(client.version(cri::VersionRequest::default())?),
        "Status" => drop(client.status(cri::StatusRequest::default())?),
        "ListPodSandbox" => drop(client.list_pod_sandbox(cri::ListPodSandboxRequest::default())?),
        "PodSandboxStatus" => drop(client.pod_sandbox_status(cri::PodSandboxStatusRequest { pod_sandbox_id, verbose: false })?),
        "ListContainers" => drop(client.list_containers(cri::ListContainersRequest::default())?),
        "ListContainerStats" => drop(client.list_container_stats(cri::ListContainerStatsRequest::default())?),
        "ListPodSandboxStats" => drop(client.list_pod_sandbox_stats(cri::ListPodSandboxStatsRequest::default())?),
        "ListPodSandboxMetrics" => drop(client.list_pod_sandbox_metrics(cri::ListPodSandboxMetricsRequest {})?),
        "ContainerStatus" => drop(client.container_status(cri::ContainerStatusRequest { container_id, verbose: false })?),
        "ImageStatus" => drop(client.image_status(cri::ImageStatusRequest { image: image(), verbose: false })?),
        "ListImages" => drop(client.list_images(cri::ListImagesRequest::default())?),
        other => anyhow::bail!("no such call: {other}"),
    }
    Ok(())
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
