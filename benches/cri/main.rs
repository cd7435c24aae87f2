//! Measures the product as a kubelet meets it: over the CRI socket of a private daemon, and the same calls against a containerd with
//! runc beside it, where one can be had.
//!
//! `benches/run` builds and starts this. It prints numbers and asserts nothing about them: a bench that fails on a busy machine tells
//! nothing. Everything that is made lies below one name ([`place`]) and is gone afterwards.

mod client;
mod containerd;
mod host_memory;
mod images;
mod life;
mod load;
mod measure;
mod measure_exec;
mod measure_many;
mod measure_pull;
mod node;
mod place;
mod plan;
mod processes;
mod registry;
mod stats;
mod table;

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;

use containerd::Containerd;
use measure::Bench;
use place::Place;
use plan::Plan;
use registry::Registry;
use table::Table;

/// Measures cri-wasm over its CRI socket, beside containerd and runc.
#[derive(Debug, Parser)]
#[command(max_term_width = 120)]
struct Arguments {
    /// Fewer repetitions and fewer pods: about a minute
    #[arg(long)]
    quick: bool,
    /// Without containerd, even if it is there
    #[arg(long)]
    alone: bool,
    /// What `cargo bench` adds by itself
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    client::notice_signals();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the daemon needs root, and so does this (try: sudo benches/run)");
    }
    let plan = if arguments.quick { Plan::quick() } else { Plan::full() };
    let place = Place::new()?;
    let registry = Registry::start(place.netns.as_deref()).context("starting a registry on loopback")?;
    let ours = node::cri_wasm(&place, registry.add_wasm("idle", &images::idle()?)).context("starting cri-wasm")?;
    let peer = if arguments.alone {
        Err("left out with --alone".to_owned())
    } else {
        Containerd::find().and_then(|found| found.start(&place, &registry).map_err(|error| format!("{error:#}")))
    };
    let mut table = Table::new(&ours.title, peer.as_ref().map(|node| node.title.clone()).map_err(Clone::clone));
    let mut nodes = vec![ours];
    nodes.extend(peer.ok());

    let mut bench = Bench { plan: &plan, place: &place, registry: &registry, nodes, table: &mut table };
    let result = bench.all();
    // What was measured before something failed is worth showing.
    bench.finish();
    println!("{table}");
    result
}
