//! seccomp profiles of pods: a JSON file on the node becomes programs for the kernel.
//!
//! [`profile`] is the file, [`compile`] what the kernel runs. A profile only ever narrows: the runtime's own filter stays, and of all
//! answers the kernel takes the most restrictive. The file is read and compiled when the container is created, so that what is wrong
//! with it is that call's error, and the container runs under what it was created with.

pub mod compile;
pub mod profile;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FileType, Mode, OFlags};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use compile::ProfileError;
use profile::Profile;

/// Bytes of a profile. The longest that are in use have some 20 kB.
const MAX_FILE: u64 = 1 << 20;

/// Why a container cannot have its profile. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// It is not there, or is no file.
    #[error("cannot read the seccomp profile {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It has more than a megabyte.
    #[error("the seccomp profile {0} is longer than {MAX_FILE} bytes")]
    TooLong(PathBuf),
    /// It is not what OCI runtimes read.
    #[error("the seccomp profile {path} is no profile in JSON")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// It says what cannot be done.
    #[error("the seccomp profile {path}")]
    Profile {
        /// The file.
        path: PathBuf,
        /// What.
        #[source]
        source: ProfileError,
    },
}

/// A program for the kernel: an array of `struct sock_filter`. In a record it is base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompProgram(pub Vec<u8>);

impl Serialize for SeccompProgram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SeccompProgram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Reads and compiles a profile. It blocks on the disk. `capabilities`: the container's bounding set, on which rules may depend.
///
/// # Errors
/// The file cannot be read, or says what cannot be done.
pub fn load(path: &Path, capabilities: u64) -> Result<Vec<SeccompProgram>, SeccompError> {
    let text = read(path)?;
    let profile: Profile =
        serde_json::from_slice(&text).map_err(|source| SeccompError::Json { path: path.to_owned(), source })?;
    let compiled = compile::compile(&profile, &compile::Surroundings::here(capabilities))
        .map_err(|source| SeccompError::Profile { path: path.to_owned(), source })?;
    if !compiled.unknown.is_empty() {
        // Profiles name calls of every architecture and of newer kernels.
        tracing::debug!(profile = %path.display(), calls = ?compiled.unknown, "calls that this machine has not are passed over");
    }
    Ok(compiled.programs)
}

fn read(path: &Path) -> Result<Vec<u8>, SeccompError> {
    let failed = |source: io::Error| SeccompError::Read { path: path.to_owned(), source };
    // Opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let about = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let mut text = Vec::new();
    std::fs::File::from(file).take(MAX_FILE.saturating_add(1)).read_to_end(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(SeccompError::TooLong(path.to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::chain;

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_path() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("profile.json");
        let said = |path: &Path| chain(&load(path, 0).unwrap_err());
        assert!(said(&path).contains("profile.json: No such file"), "{}", said(&path));
        assert!(said(place.path()).contains("not a regular file"));
        rustix::fs::mknodat(rustix::fs::CWD, place.path().join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(said(&place.path().join("fifo")).contains("not a regular file"));
        for (text, wanted) in [
            ("{}", "missing field `defaultAction`"),
            ("[", "EOF while parsing"),
            (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(said(&path).contains("profile.json") && said(&path).contains(wanted), "{}", said(&path));
        }
        std::fs::write(&path, vec![b' '; 1 << 20 | 1]).unwrap();
        assert!(said(&path).contains("longer than 1048576 bytes"));
    }

    #[test]
    fn a_program_survives_its_record() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("profile.json");
        std::fs::write(&path, r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":null}"#).unwrap();
        let programs = load(&path, 0).unwrap();
        let text = serde_json::to_string(&programs).unwrap();
        assert_eq!(serde_json::from_str::<Vec<SeccompProgram>>(&text).unwrap(), programs);
        assert!(programs.iter().all(|program| !program.0.is_empty() && program.0.len() % 8 == 0));
    }
}
