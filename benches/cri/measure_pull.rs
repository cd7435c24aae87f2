//! Pulls of large images, as tools push them: one layer, compressed. Ours leaves compiling for the first start here, since
//! the peer compiles nothing; what compiling adds is a row of its own.

use std::time::Instant;

use cri_wasm::proto::runtime::v1 as cri;

use crate::images;
use crate::measure::{Bench, say};
use crate::node::{self, Node};
use crate::stats::{Cell, megabytes, millis};

impl Bench<'_> {
    /// PullImage of an image that is not there, time and memory of the daemon.
    pub fn pulls(&mut self) -> anyhow::Result<()> {
        self.table.section("PullImage from a registry on this machine: hashed, unpacked, on the disk");
        let mut lazy = node::cri_wasm_lazy(self.place)?;
        for (size, module) in images::shipped() {
            let module = match module {
                Ok(module) => module,
                Err(reason) => {
                    self.table.row(format!("a module of {size}"), "ms", None, vec![Cell::Missing(reason)]);
                    continue;
                }
            };
            say(&format!("pulling {size}"));
            let image = self.registry.add_compressed(&format!("shipped-{}", module.len()), &module)?;
            let mut peer = self.nodes.get_mut(1);
            let (mut times, mut memory) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
            for _ in 0..self.plan.pulls {
                let both = std::iter::once(&mut lazy).chain(peer.as_deref_mut());
                for ((node, times), memory) in both.zip(&mut times).zip(&mut memory) {
                    let (took, more) = pull(node, &image)?;
                    times.push(took);
                    memory.push(more);
                }
            }
            self.table.row(format!("a module of {size}"), "ms", None, times.map(Cell::of).into());
            let goal = Some(10.0);
            self.table.row(format!("{size}: the daemon's memory, peak above idle"), "MB", goal, memory.map(Cell::of).into());
            if let Some(ours) = self.nodes.first_mut() {
                let (took, _) = pull(ours, &image)?;
                self.table.row(format!("{size}: with compiling"), "ms", None, vec![Cell::Single(took)]);
            }
        }
        lazy.stop()
    }
}

/// Pulls an image and removes it again: milliseconds, and megabytes at the peak above what was there before.
fn pull(node: &mut Node, image: &str) -> anyhow::Result<(f64, f64)> {
    let spec = Some(cri::ImageSpec { image: image.to_owned(), ..cri::ImageSpec::default() });
    let daemon = node.roles()?.daemon;
    daemon.forget_peak()?;
    let before = daemon.rss()?;
    let begin = Instant::now();
    node.client.pull_image(cri::PullImageRequest { image: spec.clone(), ..cri::PullImageRequest::default() })?;
    let took = millis(begin.elapsed());
    let more = daemon.peak_rss()?.saturating_sub(before);
    node.client.remove_image(cri::RemoveImageRequest { image: spec })?;
    Ok((took, megabytes(more)))
}
