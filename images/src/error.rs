//! What can go wrong, one enum per call, each text with the reference or the path and with what to do.
//!
//! The errors are flat and `Clone`: callers that wait for the same work all get the same error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an image could not be pulled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PullError {
    /// The text is no reference. Maps to invalid argument.
    #[error("invalid image reference {reference:?}: {reason}")]
    InvalidReference { reference: String, reason: String },
    /// The registry knows no such repository, tag, digest or blob. Maps to not found.
    #[error("{reference}: {what} not found in registry {registry}; check the name and the tag")]
    NotFound { reference: String, registry: String, what: String },
    /// The registry wants other credentials, or these cannot be used. Maps to unauthenticated.
    #[error("{reference}: registry {registry} refused access: {detail}; check the name and the pod's imagePullSecrets")]
    Unauthorized { reference: String, registry: String, detail: String },
    /// No answer, or a broken one; a retry may help. Maps to unavailable.
    #[error("{reference}: registry {registry} failed: {detail}")]
    RegistryUnavailable { reference: String, registry: String, detail: String },
    /// What this node's operator has set for the registry does not work: a broken `hosts.toml`, a certificate that is not
    /// there, no host that may be asked. Maps to failed precondition.
    #[error("{reference}: registry {registry} is not set up on this node: {detail}")]
    RegistryConfig { reference: String, registry: String, detail: String },
    /// The bytes are not those that were named. Maps to data loss.
    #[error("{reference}: registry {registry} sent {what} with digest {actual} instead of {expected}; nothing of it was kept")]
    DigestMismatch { reference: String, registry: String, what: String, expected: String, actual: String },
    /// Well-formed, but of a kind that cannot be run here. Maps to failed precondition.
    #[error("{reference}: {reason}")]
    Unsupported { reference: String, reason: String },
    /// Not what it says it is, or hostile. Maps to invalid argument.
    #[error("{reference}: invalid image: {reason}")]
    InvalidArtifact { reference: String, reason: String },
    /// A cap was reached. Maps to resource exhausted.
    #[error("{reference}: {what} is above the limit of {limit} ({option})")]
    TooLarge { reference: String, what: String, limit: u64, option: &'static str },
    /// The operator's lists do not let it in; nothing was asked of the registry. Maps to permission denied.
    #[error("{reference}: this node does not pull it: {reason}")]
    Denied { reference: String, reason: String },
    /// A verifier looked at it and said no. Maps to permission denied; the kubelet shows the reason
    /// `SignatureValidationFailed` where the code is unknown and the message begins with that word.
    #[error("{reference}: refused by the verifier {verifier} for {digest}: {text}")]
    Refused { reference: String, digest: String, verifier: String, text: String },
    /// A verifier gave no verdict, and without one nothing is pulled. Maps to failed precondition.
    #[error("{reference}: the verifier {verifier} gave no verdict: {reason}; check trust.verifiers")]
    VerifierFailed { reference: String, verifier: String, reason: String },
    /// A wasm file of the image does not compile. Maps to failed precondition where the module is at fault.
    #[error("{reference}: {path}: {reason}")]
    Compile { reference: String, path: String, reason: CompileError },
    /// This node's disk failed. Maps to internal, or to resource exhausted where it is full.
    #[error("{reference}: {io}")]
    Io { reference: String, io: DiskError },
}

/// Bytes of one text in an error. It may quote what a registry sent, and goes into a log, a gRPC status and an event.
const TEXT_BYTES: usize = 1024;

impl PullError {
    /// With no text longer than a message can be.
    pub(crate) fn bounded(mut self) -> PullError {
        let text = match &mut self {
            PullError::InvalidReference { reason: text, .. }
            | PullError::Unsupported { reason: text, .. }
            | PullError::InvalidArtifact { reason: text, .. }
            | PullError::NotFound { what: text, .. }
            | PullError::TooLarge { what: text, .. }
            | PullError::Unauthorized { detail: text, .. }
            | PullError::RegistryUnavailable { detail: text, .. } => text,
            _ => return self,
        };
        if text.len() > TEXT_BYTES {
            text.truncate((0..=TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
            text.push('…');
        }
        self
    }
}

/// A failed operation on the disk: what, where, why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {action} {path}: {error}")]
pub struct DiskError {
    /// What was being done: `write`, `rename`, …
    pub action: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// The kernel's answer; its kind is `StorageFull` where there is no room.
    pub error: Arc<io::Error>,
}

impl DiskError {
    /// There is no room, or no quota, on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self.error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    pub(crate) fn new(action: &'static str, path: impl AsRef<Path>, error: impl Into<io::Error>) -> DiskError {
        DiskError { action, path: path.as_ref().to_owned(), error: Arc::new(error.into()) }
    }
}

/// Why a [`crate::Compiler`] gave no code.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompileError {
    /// The module is at fault: invalid, or it asks for an import that is not provided. The text names it.
    #[error("{0}")]
    Rejected(String),
    /// It hit a limit on time, memory or CPU of the compile process. The text names the limit.
    #[error("{0}")]
    Limit(String),
    /// The compile process could not do its work; the module may be good.
    #[error("{0}")]
    Failed(String),
}

/// Why there is no code for a digest.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CodeError {
    /// No image on this node has a wasm file of this digest.
    #[error("no image on this node has the wasm file {digest}; pull the image again")]
    Unknown { digest: String },
    /// The wasm file on the disk is not what was pulled.
    #[error("{path} is damaged, its digest is no longer {digest}; pull the image again")]
    Damaged { digest: String, path: PathBuf },
    /// It does not compile.
    #[error("{path}: {reason}")]
    Compile { path: String, reason: CompileError },
    /// This node's disk failed.
    #[error(transparent)]
    Io(DiskError),
}

/// Why the store does not open. A broken record is no reason: it is set aside.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// A directory cannot be made, read or cleared.
    #[error(transparent)]
    Io(#[from] DiskError),
    /// Another process has the store open.
    #[error("{path} is in use by another process; give each daemon a root of its own")]
    Locked { path: PathBuf },
    /// The configuration says something that cannot be. The text names the key.
    #[error("{0}")]
    Config(String),
    /// The HTTP client does not start.
    #[error("cannot set up the registry client: {0}")]
    Client(String),
}

/// Why an image could not be removed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RemoveError {
    /// The text is neither a reference nor an id.
    #[error("invalid image reference {reference:?}: {reason}")]
    InvalidReference { reference: String, reason: String },
    /// This node's disk failed.
    #[error("{reference}: {io}")]
    Io { reference: String, io: DiskError },
}

/// No image with this id is here.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no image {id} on this node")]
pub struct NotFound {
    /// The id that was asked for.
    pub id: String,
}

/// Why a path in an image does not lead to a file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LookupError {
    /// Nothing has this name.
    #[error("{path} is not in the image")]
    NotFound { path: PathBuf },
    /// A component before the last is no directory.
    #[error("{path} leads through something that is no directory")]
    NotADirectory { path: PathBuf },
    /// More symbolic links than the kernel would follow.
    #[error("{path} leads through more than 40 symbolic links")]
    Loop { path: PathBuf },
    /// A sub path that is none. Maps to invalid argument.
    #[error("sub path {path}: {reason}")]
    SubPath { path: PathBuf, reason: &'static str },
    /// Only a regular file can be read.
    #[error("{path} is not a regular file")]
    NotAFile { path: PathBuf },
    /// Larger than the caller wants to hold.
    #[error("{path} is larger than {cap} bytes")]
    TooLarge { path: PathBuf, cap: u64 },
    /// This node's disk failed.
    #[error(transparent)]
    Io(#[from] DiskError),
}
