//! Images for cri-wasm: from a reference in a registry to a directory tree and compiled code on this node.
//!
//! The crate knows nothing of CRI messages and nothing of wasmtime: it is given a [`Compiler`] that turns a
//! wasm file into machine code in another process. In reading order:

// What callers say and get.
mod api;
mod auth;
mod config;
mod counts;
#[allow(missing_docs, reason = "the text of each variant says what its fields are")]
mod error;
mod image;
mod inspect;
mod progress;

// From a reference to bytes.
mod artifact;
mod digest;
mod manifest;
mod policy;
mod pull;
mod reference;
mod registry;

// From bytes to what lies on the disk.
mod code;
mod disk;
mod files;
mod flight;
mod foreign;
mod ingest;
mod layer;
mod partial;
mod stamp;
mod store;
mod unpack;
mod view;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs, reason = "for fuzz/ alone")]
pub mod fuzzing;

pub use api::{Hold, Images, Usage};
pub use auth::Auth;
pub use code::{Code, CodeReport, Compiler};
pub use config::{CompileMode, Config, Limits};
pub use counts::Counts;
pub use error::{CodeError, CompileError, DiskError, LookupError, NotFound, OpenError, PullError, RemoveError};
pub use files::{FileKind, Found};
pub use image::{ArtifactKind, DEFAULT_PATH, Image, ImageConfig, WasmFile, search_path};
pub use inspect::{ImageDetails, LayerDetails, WasmDetails};
pub use policy::{Policy, Verifier};
pub use progress::{BlobProgress, Phase, Progress, Snapshot};
pub use reference::{Reference, ReferenceError};
pub use view::ImageView;
