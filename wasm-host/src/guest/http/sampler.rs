//! A profile of a service: with each epoch, the stack of every instance that computes. A file for profiler.firefox.com, written when
//! the service ends.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Component;
use wasmtime::{AsContext, GuestProfiler};

use super::ticker::EPOCH;
use crate::protocol::{GuestSpec, Profile};

/// Samples of a profile, at most: over half an hour of computing.
const SAMPLES: u32 = 200_000;

/// Takes samples of all instances.
pub(super) struct Sampler {
    path: PathBuf,
    taken: Mutex<Option<(GuestProfiler, u32)>>,
}

impl Sampler {
    /// `None`: nobody asks for it.
    pub(super) fn of(spec: &GuestSpec, component: &Component) -> wasmtime::Result<Option<Arc<Self>>> {
        if spec.profile() != Profile::Guest {
            return Ok(None);
        }
        let name = spec.args.first().map_or("service", String::as_str);
        let profiler = GuestProfiler::new_component(component.engine(), name, EPOCH, component.clone(), [])?;
        let path = Path::new(&spec.profile_dir).join(format!("profile.{}.json", std::process::id()));
        Ok(Some(Arc::new(Sampler { path, taken: Mutex::new(Some((profiler, 0))) })))
    }

    /// Takes the stack that `store` is in.
    pub(super) fn sample(&self, store: impl AsContext) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((profiler, count)) = taken.as_mut()
            && *count < SAMPLES
        {
            *count += 1;
            profiler.sample(store, EPOCH);
        }
    }

    /// Writes the file. Returns what there is to say of it.
    pub(super) fn finish(&self) -> String {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((profiler, count)) = taken else { return "no profile: it is written already".to_owned() };
        let written = File::create_new(&self.path).and_then(|file| {
            let mut file = BufWriter::new(file);
            profiler.finish(&mut file).map_err(io::Error::other)?;
            file.into_inner().map(drop).map_err(io::IntoInnerError::into_error)
        });
        match written {
            Ok(()) => format!("profile of {count} samples: {}", self.path.display()),
            Err(error) => format!("no profile: {}: {error}", self.path.display()),
        }
    }
}
