//! Why a configuration is not accepted.

use std::io;
use std::path::PathBuf;

/// A configuration that is not accepted. Each names the file, and the key where there is one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML, has an unknown key, or a value of a wrong type.
    #[error("{}:{line}: {at}{message}", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// `key: `, or nothing where the line has no key.
        at: String,
        /// What is wrong, with what would be accepted.
        message: String,
    },
    /// A value of the right type that is not accepted.
    #[error("{origin}: {key} = {value}: {reason}")]
    Value {
        /// The file, or the command line.
        origin: String,
        /// The key with its table.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would be accepted.
        reason: String,
    },
    /// Rules about images that cannot be used; the reason names the key and its value.
    #[error("{origin}: {reason}")]
    Images {
        /// The file, or the command line.
        origin: String,
        /// What is wrong.
        reason: String,
    },
}
