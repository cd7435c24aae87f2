//! The file: a seccomp profile as the OCI runtime specification has it (`linux.seccomp` of config-linux.md), and with the additions
//! by which Docker and Podman choose among rules (`includes`, `excludes`).
//!
//! Members that nobody here needs (`architectures`, `archMap`, `flags`, `comment`) are passed over: a guest makes calls of this
//! machine's architecture only, the runtime's own filter kills what makes others.

use serde::Deserialize;

/// A profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What becomes of calls without a rule: `SCMP_ACT_…`.
    pub default_action: String,
    /// The errno of that action; EPERM where it is not given.
    #[serde(default)]
    pub default_errno_ret: Option<u32>,
    /// Path of the socket of an agent that decides on calls.
    #[serde(default)]
    pub listener_path: Option<String>,
    /// The rules.
    #[serde(default)]
    pub syscalls: Option<Vec<Rule>>,
}

/// What becomes of some calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The calls.
    #[serde(default)]
    pub names: Option<Vec<String>>,
    /// One call, in older files.
    #[serde(default)]
    pub name: Option<String>,
    /// `SCMP_ACT_…`.
    pub action: String,
    /// The errno of the action; EPERM where it is not given.
    #[serde(default)]
    pub errno_ret: Option<u32>,
    /// Conditions.
    #[serde(default)]
    pub args: Option<Vec<Argument>>,
    /// The rule counts only here.
    #[serde(default)]
    pub includes: Option<Only>,
    /// The rule does not count here.
    #[serde(default)]
    pub excludes: Option<Only>,
}

impl Rule {
    /// The calls that it is about.
    pub fn calls(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().chain(&self.name).map(String::as_str)
    }
}

/// A condition on an argument of a call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    /// Which: 0 to 5.
    pub index: u32,
    /// What it is compared with; for `SCMP_CMP_MASKED_EQ` the mask.
    pub value: u64,
    /// For `SCMP_CMP_MASKED_EQ`: what the masked argument is compared with.
    #[serde(default)]
    pub value_two: Option<u64>,
    /// `SCMP_CMP_…`.
    pub op: String,
}

/// Surroundings in which a rule counts, or does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Only {
    /// Capabilities, `CAP_…`.
    #[serde(default)]
    pub caps: Option<Vec<String>>,
    /// Architectures as Go names them: `amd64`.
    #[serde(default)]
    pub arches: Option<Vec<String>>,
    /// `major.minor`.
    #[serde(default)]
    pub min_kernel: Option<String>,
}
