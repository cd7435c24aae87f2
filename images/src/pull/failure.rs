//! What went wrong in a part of a pull, told with its reference.

use super::{LayerError, Pull};
use crate::error::PullError;
use crate::registry::RegistryError;
use crate::unpack::UnpackError;

impl Pull {
    pub(super) fn text(&self) -> String {
        self.reference.to_string()
    }

    pub(super) fn invalid(&self, reason: String) -> PullError {
        PullError::InvalidArtifact { reference: self.text(), reason }
    }

    pub(super) fn too_large(&self, what: &str, limit: u64, option: &'static str) -> PullError {
        PullError::TooLarge { reference: self.text(), what: what.to_owned(), limit, option }
    }

    pub(super) fn failed(&self, error: RegistryError) -> PullError {
        self.failed_at(error, "max_manifest_bytes")
    }

    pub(super) fn failed_at(&self, error: RegistryError, option: &'static str) -> PullError {
        match error {
            RegistryError::TooLarge { what, limit } => self.too_large(&what, limit, option),
            error => registry_error(&self.text(), self.session.host(), error),
        }
    }

    pub(super) fn layer_failed(&self, error: LayerError) -> PullError {
        let reference = self.text();
        match error {
            // The manifest says how long the blob is, so this is no cap of ours.
            LayerError::Registry(RegistryError::TooLarge { what, limit }) => {
                let detail = format!("{what}: more bytes were sent than the {limit} that the manifest says");
                PullError::RegistryUnavailable { reference, registry: self.session.host().to_owned(), detail }
            }
            LayerError::Registry(error) => registry_error(&reference, self.session.host(), error),
            LayerError::Disk(io) | LayerError::Unpack(_, UnpackError::Disk(io)) => PullError::Io { reference, io },
            LayerError::Unpack(blob, UnpackError::Invalid(reason)) => self.invalid(format!("layer {blob}: {reason}")),
            LayerError::Unpack(blob, UnpackError::TooLarge { what, limit, option }) => {
                self.too_large(&format!("layer {blob}: {what}"), limit, option)
            }
            LayerError::Unpack(blob, UnpackError::DiffId { expected, actual }) => {
                self.invalid(format!("layer {blob} unpacks to {actual}, its configuration says {expected}"))
            }
            LayerError::Unpack(blob, UnpackError::Cancelled) => self.invalid(format!("layer {blob} was given up")),
        }
    }
}

pub(super) fn registry_error(reference: &str, registry: &str, error: RegistryError) -> PullError {
    let (reference, registry) = (reference.to_owned(), registry.to_owned());
    match error {
        RegistryError::NotFound { what } => PullError::NotFound { reference, registry, what },
        RegistryError::Unauthorized(detail) => PullError::Unauthorized { reference, registry, detail },
        RegistryError::Unavailable(detail) | RegistryError::Cut(detail) | RegistryError::Range(detail) => {
            PullError::RegistryUnavailable { reference, registry, detail }
        }
        RegistryError::Config(detail) => PullError::RegistryConfig { reference, registry, detail },
        RegistryError::TooLarge { what, limit } => PullError::TooLarge { reference, what, limit, option: "max_layer_bytes" },
        RegistryError::Mismatch { what, expected, actual } => {
            PullError::DigestMismatch { reference, registry, what, expected, actual }
        }
    }
}
