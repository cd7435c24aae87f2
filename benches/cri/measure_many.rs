//! What is measured with many pods: bursts, memory, processor time while nothing happens, long lists, a daemon's restart.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use cri_wasm::proto::runtime::v1 as cri;
use futures_util::future::{join_all, try_join_all};

use crate::client::{block_on, check_interrupted};
use crate::host_memory::{HostMemory, charged};
use crate::life::{FirstLine, Network, Pod};
use crate::load;
use crate::measure::{Bench, read, say};
use crate::node::Node;
use crate::stats::{Cell, each, megabytes, millis};

/// A row of the section about idle pods.
struct Row {
    name: &'static str,
    unit: &'static str,
    goal: Option<f64>,
    /// Whether the figure is not one of a single pod, and depends on how many there are.
    of_all: bool,
}

const fn per_pod(name: &'static str, goal: Option<f64>) -> Row {
    Row { name, unit: "MB", goal, of_all: false }
}

const fn of_all(name: &'static str, unit: &'static str, goal: Option<f64>) -> Row {
    Row { name, unit, goal, of_all: true }
}

const ROWS: [Row; 18] = [
    per_pod("memory of a pod, PSS of all its processes", Some(0.5)),
    per_pod("memory of a pod, charged to its cgroups", None),
    per_pod("memory of a pod, less MemAvailable", None),
    per_pod("memory of a pod, more Committed_AS", None),
    of_all("daemon, resident", "MB", Some(30.0)),
    of_all("daemon and supervisor, PSS", "MB", None),
    of_all("CPU of a core, nobody asks", "%", None),
    of_all("CPU of a core, a kubelet asks", "%", Some(2.0)),
    of_all("ListContainerStats", "ms", Some(5.0)),
    of_all("ListPodSandboxStats", "ms", Some(5.0)),
    of_all("ListPodSandboxMetrics", "ms", None),
    of_all("ListContainers", "ms", None),
    of_all("ListPodSandbox", "ms", None),
    of_all("Status", "ms", None),
    of_all("daemon killed, until all are listed again", "ms", None),
    per_pod("more pods: memory of a pod, less MemAvailable", None),
    of_all("more pods: ListPodSandbox", "ms", None),
    of_all("more pods: ListContainers", "ms", None),
];

impl Bench<'_> {
    /// Many pods at once.
    pub fn bursts(&mut self) -> anyhow::Result<()> {
        self.table.section("Pods at once in the node's network, until the last one's first line");
        for (count, times) in self.plan.bursts {
            say(&format!("bursts of {count} pods"));
            let mut cells = Vec::new();
            for (node, times) in self.nodes.iter_mut().zip(times) {
                let samples: anyhow::Result<Vec<f64>> = (0..times).map(|_| burst(node, count)).collect();
                cells.push(Cell::of(samples?));
            }
            self.table.row(format!("{count} pods"), "ms", None, cells);
        }
        Ok(())
    }

    /// Pods that wait.
    pub fn idle(&mut self) -> anyhow::Result<()> {
        let mut columns = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let of = |pair: crate::plan::Pair| pair.get(index).copied().unwrap_or_default();
            let sizes = Sizes {
                few: of(self.plan.idle),
                many: of(self.plan.many),
                restarts: of(self.plan.restarts),
                reads: self.plan.reads,
                window: self.plan.window,
            };
            say(&format!("{} idle pods of {}", sizes.few, node.title));
            let mut pods = Vec::new();
            let column = measure_idle(node, &sizes, &mut pods);
            for pod in &pods {
                node.end_pod(pod)?;
            }
            let (column, note) = column?;
            self.table.note(note);
            columns.push(column.into_iter());
        }
        let ([idle, idle_of_peer], [many, many_of_peer]) = (self.plan.idle, self.plan.many);
        self.table.section(format!("{idle} idle pods; \"more pods\" are {many}"));
        let is_unlike = idle != idle_of_peer || many != many_of_peer;
        for Row { name, unit, goal, of_all } in ROWS {
            let mut cells: Vec<Cell> = columns.iter_mut().filter_map(Iterator::next).collect();
            if of_all && is_unlike && cells.len() > 1 {
                cells.truncate(1);
                cells.push(Cell::Missing(format!("only {idle_of_peer} pods")));
            }
            self.table.row(name, unit, goal, cells);
        }
        Ok(())
    }
}

fn burst(node: &mut Node, count: usize) -> anyhow::Result<f64> {
    let image = node.image.clone();
    let mut prepared = Vec::new();
    for _ in 0..count {
        let pod = node.prepare(Network::Node, &image)?;
        let line = FirstLine::watch(&pod.log)?;
        prepared.push((pod, line));
    }
    let begin = Instant::now();
    let started = block_on(join_all(prepared.iter().map(|(pod, _)| node.run_later(pod))))?;
    let pods: anyhow::Result<Vec<Pod>> = started.into_iter().map(|result| result.map(|(pod, _)| pod)).collect();
    let pods = pods?;
    for (_, line) in &prepared {
        line.wait(begin)?;
    }
    let took = millis(begin.elapsed());
    pods.iter().try_for_each(|pod| node.end_pod(pod).map(drop))?;
    Ok(took)
}

struct Sizes {
    few: usize,
    many: usize,
    restarts: usize,
    reads: usize,
    window: Duration,
}

/// A cell for each of the rows, and a note. The pods it leaves are in `pods`, also when it fails.
fn measure_idle(node: &mut Node, sizes: &Sizes, pods: &mut Vec<Pod>) -> anyhow::Result<(Vec<Cell>, String)> {
    let count = sizes.few;
    let before = HostMemory::look()?;
    launch_until(node, pods, count)?;
    let after = HostMemory::look()?;
    let pss = node.pods_pss()?;
    ensure!(pss.len() >= count, "{} processes for {count} pods", pss.len());
    // A process for each pod: a spread. Several: only their sum means anything.
    let pss = if pss.len() == count {
        Cell::of(pss.into_iter().map(megabytes).collect())
    } else {
        Cell::Single(each(megabytes(pss.iter().sum()), count))
    };
    let charged = charged(&node.pods_cgroup);
    let mut cells = vec![
        pss,
        charged.map_or_else(|| Cell::Missing("no memory cgroup".to_owned()), |bytes| Cell::Single(each(megabytes(bytes), count))),
        Cell::Single(each(after.taken_since(&before), count)),
        Cell::Single(each(after.committed_since(&before), count)),
        Cell::Single(megabytes(node.roles()?.daemon.rss()?)),
        Cell::Single(megabytes(node.fixed_pss()?)),
    ];

    let quiet = cpu_percent(node, || {
        std::thread::sleep(sizes.window);
        check_interrupted()
    })?;
    let mut asked = load::Asked::default();
    let polled = cpu_percent(node, || {
        asked = load::poll(node, pods, sizes.window)?;
        Ok(())
    })?;
    cells.extend([Cell::Single(quiet), Cell::Single(polled)]);
    let note = format!(
        "a kubelet asks: {:.1} calls a second of {}, {} refused",
        f64::from(u32::try_from(asked.calls)?) / sizes.window.as_secs_f64(),
        node.title,
        asked.refused
    );

    let Some(pod) = pods.first() else { bail!("no pods") };
    let lists =
        ["ListContainerStats", "ListPodSandboxStats", "ListPodSandboxMetrics", "ListContainers", "ListPodSandbox", "Status"];
    for name in lists {
        cells.push(repeat(node, name, pod, sizes.reads));
    }
    let restarts: anyhow::Result<Vec<f64>> = (0..sizes.restarts).map(|_| restart(node, count)).collect();
    cells.push(Cell::of(restarts?));

    launch_until(node, pods, sizes.many)?;
    cells.push(Cell::Single(each(HostMemory::look()?.taken_since(&before), pods.len())));
    let Some(pod) = pods.first() else { bail!("no pods") };
    for name in ["ListPodSandbox", "ListContainers"] {
        cells.push(repeat(node, name, pod, sizes.reads));
    }
    Ok((cells, note))
}

/// A call that only reads, again and again. One that the runtime does not have is a cell that says so.
fn repeat(node: &Node, name: &str, pod: &Pod, times: usize) -> Cell {
    let sample = || {
        let begin = Instant::now();
        read(node, name, pod).map(|()| millis(begin.elapsed()))
    };
    let samples: anyhow::Result<Vec<f64>> = (0..times).map(|_| sample()).collect();
    samples.map_or_else(|_| Cell::Missing("refused".to_owned()), Cell::of)
}

/// In batches, as one at a time would take the peer minutes.
fn launch_until(node: &mut Node, pods: &mut Vec<Pod>, count: usize) -> anyhow::Result<()> {
    let image = node.image.clone();
    while pods.len() < count {
        let mut prepared = Vec::new();
        for _ in 0..(count - pods.len()).min(10) {
            let pod = node.prepare(Network::Node, &image)?;
            let line = FirstLine::watch(&pod.log)?;
            prepared.push((pod, line));
        }
        let started = block_on(try_join_all(prepared.iter().map(|(pod, _)| node.run_later(pod))))??;
        pods.extend(started.into_iter().map(|(pod, _)| pod));
        let begin = Instant::now();
        prepared.iter().try_for_each(|(_, line)| line.wait(begin))?;
    }
    // What was needed only for starting goes back, by itself.
    std::thread::sleep(Duration::from_secs(3));
    Ok(())
}

fn cpu_percent(node: &Node, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let (before, begin) = (node.cpu_millis()?, Instant::now());
    work()?;
    let used = node.cpu_millis()?.saturating_sub(before);
    Ok(f64::from(u32::try_from(used)?) / millis(begin.elapsed()) * 100.0)
}

/// From the start of a new daemon, after the old one was killed, until it lists every container as running.
fn restart(node: &mut Node, count: usize) -> anyhow::Result<f64> {
    node.kill()?;
    let begin = Instant::now();
    node.launch()?;
    loop {
        let running = i32::from(cri::ContainerState::ContainerRunning);
        let listed = node.client.list_containers(cri::ListContainersRequest::default());
        if listed.is_ok_and(|list| list.containers.iter().filter(|container| container.state == running).count() >= count) {
            return Ok(millis(begin.elapsed()));
        }
        check_interrupted()?;
        ensure!(begin.elapsed() < Duration::from_secs(60), "the new daemon does not list all its containers");
        std::thread::sleep(Duration::from_millis(1));
    }
}
