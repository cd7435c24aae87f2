//! Images for cri-wasm: from a reference in a registry to a directory tree and compiled code on this node.
//!
//! The crate knows nothing of CRI messages and nothing of wasmtime: it is given a [`Compiler`] that turns a
//! wasm file into machine code in another process. In reading order:

// What callers say and get.
mod api;
mod auth;
mod config;
#[allow(missing_docs, reason = "the text of each variant says what its fields are")]
mod error;
mod image;

// From a reference to bytes.
mod artifact;
mod digest;
mod manifest;
mod pull;
mod reference;
mod registry;

// From bytes to what lies on the disk.
mod code;
mod disk;
mod files;
mod flight;
mod ingest;
mod layer;
mod store;
mod unpack;

pub use api::{Hold, Images, Usage};
pub use auth::Auth;
pub use code::{Code, CodeReport, Compiler};
pub use config::{Config, Limits};
pub use error::{CodeError, CompileError, DiskError, LookupError, NotFound, OpenError, PullError, RemoveError};
pub use files::{FileKind, Found};
pub use image::{ArtifactKind, Image, ImageConfig, WasmFile};
pub use reference::{Reference, ReferenceError};
