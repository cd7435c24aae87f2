//! What can go wrong between us, the configuration and the plugins.
//!
//! A cause is a `source` and is not repeated in the text of what it caused;
//! [`full_text`] puts the texts of a chain together where only a string fits.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::cache::CacheError;
use super::plugin::Command;
use super::result::ResultError;

/// A request to the network that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A setting of [`super::NetworkConfig`] cannot be used.
    #[error("setting {setting}: {why}")]
    Setting {
        /// The field's name.
        setting: &'static str,
        /// What it must be.
        why: &'static str,
    },
    /// A value of the pod cannot be handed to plugins: it would be read as
    /// something else, or is refused by every runtime.
    #[error("the pod's {field} {value:?} cannot be given to CNI plugins")]
    Pod {
        /// The field's name.
        field: &'static str,
        /// The value found there.
        value: String,
    },
    /// There is no usable configuration; the text says where and what to do.
    #[error("{0}")]
    NotConfigured(String),
    /// The sandbox has a network already: `ADD` must not be called twice.
    #[error("sandbox {sandbox} is attached to a network already ({record})")]
    AlreadyAttached {
        /// The sandbox's id.
        sandbox: String,
        /// The cached record that says so.
        record: PathBuf,
    },
    /// Nothing is known of an attachment of this sandbox.
    #[error("sandbox {0} is not attached to a network")]
    NotAttached(String),
    /// A plugin failed while the sandbox was attached. What had been added is
    /// taken back.
    #[error("cannot attach sandbox {sandbox} to network {network}")]
    Add {
        /// The sandbox's id.
        sandbox: String,
        /// The network's name.
        network: String,
        /// The plugin's failure.
        #[source]
        source: Box<PluginError>,
    },
    /// The plugins succeeded, but what they answered is of no use to a pod.
    #[error("network {network} gave sandbox {sandbox} an unusable result")]
    UnusableResult {
        /// The sandbox's id.
        sandbox: String,
        /// The network's name.
        network: String,
        /// What is wrong with it.
        #[source]
        source: ResultError,
    },
    /// A plugin failed while the sandbox was detached. The record stays, the
    /// call can be repeated.
    #[error("cannot detach sandbox {sandbox} from network {network}")]
    Remove {
        /// The sandbox's id.
        sandbox: String,
        /// The network's name.
        network: String,
        /// The plugin's failure.
        #[source]
        source: Box<PluginError>,
    },
    /// A plugin says that the attachment is not as it should be.
    #[error("sandbox {sandbox} is not well attached to network {network}")]
    Check {
        /// The sandbox's id.
        sandbox: String,
        /// The network's name.
        network: String,
        /// The plugin's failure.
        #[source]
        source: Box<PluginError>,
    },
    /// Some leftovers could not be collected.
    #[error("{} leftovers of the network could not be collected: {}", failures.len(), failures.join("; "))]
    Collect {
        /// One text a failure.
        failures: Vec<String>,
    },
    /// The cached record of an attachment cannot be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The runtime of the daemon ended before a call to the disk did.
    #[error("the call was cut short by the daemon's end")]
    Interrupted,
}

/// A plugin that failed at a command.
#[derive(Debug, thiserror::Error)]
#[error("plugin {plugin} failed at {command}")]
pub struct PluginError {
    /// The plugin's `type`.
    pub plugin: String,
    /// The command it was given.
    pub command: Command,
    /// What happened.
    #[source]
    pub failure: PluginFailure,
}

/// The ways in which a plugin fails.
#[derive(Debug, thiserror::Error)]
pub enum PluginFailure {
    /// The `type` is no name of a file.
    #[error("its type is not the name of a file")]
    BadName,
    /// None of the directories has it.
    #[error("it is not in {}", list(dirs))]
    NotFound {
        /// The directories looked through.
        dirs: Vec<PathBuf>,
    },
    /// It could not be started.
    #[error("cannot start {path}")]
    Start {
        /// The executable.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Its output or its end could not be waited for.
    #[error("cannot talk to it")]
    Talk(#[source] io::Error),
    /// It told the error itself, as the specification's section 5 asks.
    #[error("code {code}: {message}{}", details_suffix(details))]
    Reported {
        /// One of the specification's codes, or from 100 on its own.
        code: u32,
        /// What it says.
        message: String,
        /// What it adds, or nothing.
        details: String,
    },
    /// It failed without telling an error in the form that it should.
    #[error("{status} without an error in JSON; it wrote {output:?}")]
    Died {
        /// Exit code or signal.
        status: ExitStatus,
        /// The beginning of what it wrote to stdout, or else to stderr.
        output: String,
    },
    /// It took too long and was killed, with all processes it had started.
    #[error("no answer within {} s, killed", after.as_secs_f32())]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
    /// It wrote more than any result has, and was killed.
    #[error("it wrote more than {limit} bytes, killed")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// It succeeded, but what it wrote is not what it should write.
    #[error("its answer is unusable: {output:?}")]
    Garbage {
        /// The beginning of what it wrote.
        output: String,
        /// What is wrong with it.
        #[source]
        source: ResultError,
    },
}

impl PluginFailure {
    /// Whether the plugin may have done something before it failed.
    pub(super) fn may_have_run(&self) -> bool {
        !matches!(self, PluginFailure::BadName | PluginFailure::NotFound { .. } | PluginFailure::Start { .. })
    }
}

fn details_suffix(details: &str) -> String {
    if details.is_empty() { String::new() } else { format!("; {details}") }
}

fn list(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" or ")
}

/// The texts of an error and of its causes, outermost first.
pub fn full_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
