//! Each metric once: its name, its labels, its words. docs/metrics.md and the dashboard are checked against this list.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::lag::Lag;

/// A call and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Rpc {
    /// Its name in the CRI.
    pub method: &'static str,
    /// Its gRPC code, by the name that the specification of gRPC gives in Go: `OK`, `NotFound`.
    pub code: &'static str,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Method {
    /// Its name in the CRI.
    pub method: &'static str,
}

/// The state of a pod or container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct State {
    /// `ready`, `running` and so on.
    pub state: &'static str,
}

/// Why a guest ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// As in ContainerStatus.
    pub reason: &'static str,
}

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `ok` or a word for why not.
    pub result: &'static str,
}

/// What a command or session is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// `sync`, `exec`, `attach`, `port_forward`.
    pub kind: &'static str,
}

/// A command of CNI.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Cni {
    /// `ADD`, `DEL` and so on.
    pub command: &'static str,
}

/// A call of a CNI plugin and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CniCall {
    /// `ADD`, `DEL` and so on.
    pub command: &'static str,
    /// `ok` or `error`.
    pub result: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// From a status, which takes tens of microseconds, to a pull, which takes minutes; in seconds.
const CALLS: [f64; 13] = [0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 240.0];
/// Starts of guests: half a millisecond where all is well.
const LAUNCHES: [f64; 11] = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];
/// Other programs, and networks.
const SLOW: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];
/// Commits on tmpfs.
const COMMITS: [f64; 9] = [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.001, 0.005, 0.025, 0.1];

fn calls() -> Histogram {
    Histogram::new(CALLS)
}

fn slow() -> Histogram {
    Histogram::new(SLOW)
}

macro_rules! register {
    ($registry:expr, $name:literal, $help:expr, $metric:expr) => {
        $registry.register($name, $help, $metric)
    };
    ($registry:expr, $name:literal, $help:expr, $metric:expr, $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $metric)
    };
}

/// Declares the metrics: `/// help` then `field: Type = value => "name" [Unit];`. The name on the wire gets the prefix `cri_wasm_`, the
/// unit, and `_total` where it is a counter.
macro_rules! metrics {
    ($( $(#[doc = $help:literal])+ $field:ident : $type:ty = $value:expr => $name:literal $($unit:ident)?; )+) => {
        /// All counters. Clones of a metric are the same metric.
        #[derive(Debug)]
        pub struct Metrics {
            $( $(#[doc = $help])+ pub $field: $type, )+
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $( $field: $value, )+ }
            }
        }

        impl Metrics {
            /// Makes the metrics visible in a registry.
            pub(super) fn register(&self, registry: &mut Registry) {
                registry.register("build", "The version of this program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
                $(
                    let help = concat!($($help),+).trim().trim_end_matches('.');
                    register!(registry, $name, help, self.$field.clone() $(, $unit)?);
                )+
            }
        }
    };
}

metrics! {
    /// RPCs that have ended, by method and gRPC code; Canceled: the client went away first.
    rpcs: Family<Rpc, Counter> = Family::default() => "rpcs";
    /// Time from an RPC's arrival to its answer.
    rpc_duration: Histograms<Method> = Family::new_with_constructor(calls) => "rpc_duration" Seconds;
    /// RPCs under way.
    rpcs_in_flight: Gauge = Gauge::default() => "rpcs_in_flight";
    /// Pods by state; the state creating is one whose RunPodSandbox has not answered.
    sandboxes: Family<State, Gauge> = Family::default() => "sandboxes";
    /// Containers by state.
    containers: Family<State, Gauge> = Family::default() => "containers";
    /// Guests that were started, commands in containers too.
    guests_started: Counter = Counter::default() => "guests_started";
    /// Time that the supervisor took to start a guest: from the request until its code is about to run.
    guest_launch_duration: Histogram = Histogram::new(LAUNCHES) => "guest_launch_duration" Seconds;
    /// Launches that failed.
    guest_launch_failures: Counter = Counter::default() => "guest_launch_failures";
    /// Containers that have ended, by the reason of their status; Trap and OOMKilled are among them.
    guests_exited: Family<Reason, Counter> = Family::default() => "guests_exited";
    /// Pulls that have ended, by result. Callers that share a pull count each.
    pulls: Family<Outcome, Counter> = Family::default() => "pulls";
    /// Time that a pull took, compilation included.
    pull_duration: Histogram = slow() => "pull_duration" Seconds;
    /// Bytes of blobs that registries have sent.
    pull_received: Counter = Counter::default() => "pull_received" Bytes;
    /// Wasm files that were compiled, by result.
    compiles: Family<Outcome, Counter> = Family::default() => "compiles";
    /// Time that the compilation of one wasm file took.
    compile_duration: Histogram = slow() => "compile_duration" Seconds;
    /// Questions for compiled code, by whether the cache had it.
    code_lookups: Family<Outcome, Counter> = Family::default() => "code_lookups";
    /// Images that are here.
    images: Gauge = Gauge::default() => "images";
    /// Space that the image store takes, compiled code included; measured when an image comes or goes and when the kubelet asks.
    image_store: Gauge = Gauge::default() => "image_store" Bytes;
    /// Commands that were run in containers, by kind: sync is ExecSync, exec is a session.
    execs: Family<Kind, Counter> = Family::default() => "execs";
    /// Commands that run in containers now.
    execs_running: Family<Kind, Gauge> = Family::default() => "execs_running";
    /// Streaming sessions that were begun; of port-forward each connection is one.
    sessions: Family<Kind, Counter> = Family::default() => "streaming_sessions";
    /// Exec and attach sessions that are open.
    sessions_open: Family<Kind, Gauge> = Family::default() => "streaming_sessions_open";
    /// Calls of CNI plugins, by command and result.
    cni_calls: Family<CniCall, Counter> = Family::default() => "cni_calls";
    /// Time that one CNI plugin took, by command.
    cni_duration: Histograms<Cni> = Family::new_with_constructor(slow) => "cni_duration" Seconds;
    /// Whether a supervisor is there to start guests.
    supervisor_up: Gauge = Gauge::default() => "supervisor_up";
    /// Supervisors that went away by themselves and were replaced.
    supervisor_restarts: Counter = Counter::default() => "supervisor_restarts";
    /// Commits of the live store of records.
    record_commits: Counter = Counter::default() => "record_commits";
    /// Time that a commit of the live store took.
    record_commit_duration: Histogram = Histogram::new(COMMITS) => "record_commit_duration" Seconds;
    /// Commits of the mirror of the records, by result.
    mirror_commits: Family<Outcome, Counter> = Family::default() => "record_mirror_commits";
    /// Records that the mirror has not been told yet.
    mirror_pending: Gauge = Gauge::default() => "record_mirror_pending";
    /// Age of the oldest change that the mirror has not been told yet; 0: it has them all.
    mirror_lag: Lag = Lag::default() => "record_mirror_lag" Seconds;
    /// Spans that were handed to the collector of traces.
    spans_exported: Counter = Counter::default() => "trace_spans_exported";
    /// Spans that were thrown away, by reason: the queue was full, or the collector did not take them.
    spans_dropped: Family<Reason, Counter> = Family::default() => "trace_spans_dropped";
}

impl Metrics {
    /// A reason as a label: one of the few that there are.
    pub fn reason(text: &str) -> Reason {
        const KNOWN: [&str; 6] = ["Completed", "Error", "Trap", "OOMKilled", "StartError", "Unknown"];
        Reason { reason: KNOWN.into_iter().find(|known| *known == text).unwrap_or("Other") }
    }
}
