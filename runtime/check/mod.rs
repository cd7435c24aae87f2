//! `cri-wasm check`: what a node lacks, a line each, with its remedy and with what works without it.
//!
//! Nothing is guessed from a version where it can be tried: namespaces are unshared on a thread that ends, an overlay
//! is put together in a directory that goes away again and is mounted nowhere, and what is only text (`/proc`, the CNI
//! configuration) is read. The check changes nothing on the node.
//!
//! [`kernel`] asks what the kernel can do, [`node`] what the node's administrator set up, [`cni`] whether pods get a
//! network.

mod cni;
mod kernel;
mod node;

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use crate::config::Config;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is there.
    Ok,
    /// It is not as it should be; the remedy says what works all the same.
    Warning,
    /// It is not there, and no pod runs without it.
    Missing,
}

impl Level {
    /// The word at the start of a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Missing => "missing",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a few words, the same on every node.
    pub name: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub message: String,
    /// What to do about it, and what works without it. `None` where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, message: impl Into<String>) -> Finding {
        Finding { name, level: Level::Ok, message: message.into(), remedy: None }
    }

    fn warning(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { name, level: Level::Warning, message: message.into(), remedy: Some(remedy.into()) }
    }

    fn missing(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { name, level: Level::Missing, message: message.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks at everything, in the order in which a person would put it right. Blocking, some milliseconds.
pub fn run(config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        node::root_user(),
        kernel::version(),
        kernel::namespaces(),
        kernel::mount_interface(),
        kernel::overlay(),
        node::root_directory(&config.root),
        node::state_directory(&config.state),
        node::user_namespaces(&config.root),
        kernel::seccomp(),
        kernel::landlock(),
        kernel::address_space(),
    ];
    findings.extend(node::cgroups(&config.cgroup));
    findings.extend([cni::configuration(&config.network), cni::host_ports(&config.network)]);
    findings.extend([node::open_files(), node::inotify(), node::clock()]);
    findings
}

/// Whether something is missing without which no pod runs; `cri-wasm check` exits with 1 then.
pub fn is_essential_missing(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Missing)
}

/// A line for each finding, its remedy below it, and a last line that sums up.
pub fn render_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or_default();
    for Finding { name, level, message, remedy } in findings {
        // A writer to a String does not fail.
        let _ = writeln!(text, "{:<8} {name:<width$}  {message}", level.as_str());
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "{:<8} {:<width$}  -> {remedy}", "", "");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let _ = match (count(Level::Missing), count(Level::Warning)) {
        (0, 0) => writeln!(text, "\nThis node has everything."),
        (0, warnings) => writeln!(text, "\nPods run on this node; warnings: {warnings}."),
        (missing, warnings) => {
            writeln!(text, "\nNo pod runs on this node as it is; missing: {missing}, warnings: {warnings}.")
        }
    };
    text
}

/// The findings as a JSON array, a line each, for `--json`.
pub fn render_json(findings: &[Finding]) -> Result<String, serde_json::Error> {
    let lines = findings.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

/// The path itself, or the nearest directory above it that is there: what a directory that is still to be made would
/// lie on.
fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests;
