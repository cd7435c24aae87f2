//! cri-wasm, a CRI runtime for WebAssembly: the daemon that a kubelet talks to, and the command line.
//!
//! The modules in reading order. `ARCHITECTURE.md` draws the whole.

/// Messages and services, generated from `proto/`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code; its comments stand in proto/"
)]
pub mod proto {
    /// Package `runtime.v1`.
    pub mod runtime {
        /// Version 1 of the CRI.
        pub mod v1 {
            tonic::include_proto!("runtime.v1");
            /// The same as a serialized `FileDescriptorSet`.
            pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.descriptors"));
        }
    }
    /// Package `criwasm.images`: what the daemon offers beside the CRI.
    pub mod images {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("criwasm.images.v1");
        }
    }
}

pub mod config;
pub mod logging;
pub mod metrics;
pub mod traces;

mod deadline;
pub mod server;

pub mod cri;

pub mod state;

pub mod sandbox;

#[allow(unsafe_code, reason = "mount_setattr, which rustix lacks")]
pub mod container;
pub mod exec;
pub mod store;
pub mod streaming;

pub mod events;
pub mod recovery;
pub mod stats;

pub mod host;

pub mod compiler;

pub mod cgroup;
pub mod network;
pub mod pinned;
pub mod sysctl;

#[allow(unsafe_code, reason = "tries system calls that have no safe wrapper")]
pub mod check;
pub mod cli;
