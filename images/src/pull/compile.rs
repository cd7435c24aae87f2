//! Code for the wasm files of an image that is being pulled.

use futures_util::future::try_join_all;

use super::Pull;
use crate::digest::Digest;
use crate::error::{CodeError, PullError};
use crate::image::{Image, WasmFile};
use crate::store::Item;

impl Pull {
    /// Every wasm file, each content once.
    pub(super) async fn compile(&self, image: &Image) -> Result<(), PullError> {
        let mut files: Vec<&WasmFile> = image.wasm.iter().collect();
        files.sort_by(|one, other| one.digest.cmp(&other.digest));
        files.dedup_by(|one, other| one.digest == other.digest);
        for file in &files {
            if let Ok(digest) = Digest::parse(&file.digest) {
                self.pins.add(Item::Code(digest));
            }
        }
        let compiled = files.iter().map(|file| async move {
            let host = self.inner.host_path(image, &file.path);
            let code = match (host, Digest::parse(&file.digest)) {
                (Some(host), Ok(digest)) => {
                    let pins = self.pins.clone();
                    self.inner.store.code.get(&self.inner.code_flights, digest, host, pins).await
                }
                _ => Err(CodeError::Unknown { digest: file.digest.clone() }),
            };
            code.map_err(|error| self.code_failed(file, error))
        });
        try_join_all(compiled).await.map(drop)
    }

    fn code_failed(&self, file: &WasmFile, error: CodeError) -> PullError {
        let reference = self.text();
        match error {
            CodeError::Compile { reason, .. } => PullError::Compile { reference, path: file.path.display().to_string(), reason },
            CodeError::Io(io) => PullError::Io { reference, io },
            other => self.invalid(other.to_string()),
        }
    }
}
