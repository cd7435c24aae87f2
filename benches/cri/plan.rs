//! How often each thing is measured. Two sizes: one whose medians stand still, and one for a look in between.

use std::time::Duration;

/// Repetitions for cri-wasm and for the peer, whose pods take twenty times as long.
pub type Pair = [usize; 2];

/// Sizes of a run.
#[derive(Debug)]
pub struct Plan {
    /// Pod lives in the node's network.
    pub lives: Pair,
    /// Pod lives in a network of their own.
    pub cni_lives: Pair,
    /// ADDs of the CNI plugin alone.
    pub plugin_adds: usize,
    /// Calls of each RPC that only reads.
    pub reads: usize,
    /// Pods at once: how many, and how often.
    pub bursts: [(usize, Pair); 2],
    /// Pods that idle at once. What depends on their number is only compared where both runtimes have the same.
    pub idle: Pair,
    /// More of them, for memory and lists.
    pub many: Pair,
    /// How long CPU time is watched.
    pub window: Duration,
    /// Kills of the daemon.
    pub restarts: Pair,
    /// Pulls of a module of 5.8 MB that was never seen before.
    pub first_starts: usize,
    /// Pulls of each large image.
    pub pulls: usize,
    /// ExecSyncs.
    pub execs: usize,
    /// Transfers of 200 MiB.
    pub transfers: usize,
}

impl Plan {
    /// Some minutes.
    pub fn full() -> Self {
        Self {
            lives: [200, 40],
            cni_lives: [60, 20],
            plugin_adds: 20,
            reads: 300,
            bursts: [(20, [10, 3]), (100, [5, 1])],
            idle: [100, 100],
            many: [200, 200],
            window: Duration::from_secs(30),
            restarts: [10, 3],
            first_starts: 5,
            pulls: 7,
            execs: 100,
            transfers: 5,
        }
    }

    /// About a minute.
    pub fn quick() -> Self {
        Self {
            lives: [40, 8],
            cni_lives: [15, 5],
            plugin_adds: 5,
            reads: 50,
            bursts: [(20, [3, 1]), (100, [1, 0])],
            idle: [100, 10],
            many: [200, 10],
            window: Duration::from_secs(5),
            restarts: [3, 1],
            first_starts: 1,
            pulls: 3,
            execs: 20,
            transfers: 3,
        }
    }
}
