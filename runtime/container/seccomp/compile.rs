//! From a profile to programs for the kernel.
//!
//! seccompiler makes programs with one answer for calls that match and one for all others; a profile may have several answers. So a
//! profile becomes several programs, of which the kernel runs all and takes the most restrictive answer: one that gives the default
//! to what no rule names, and one for each answer of the rules that is not "allow". Where rules of one call contradict each other the
//! stricter one counts.

use std::collections::BTreeMap;

use rustix::thread::CapabilitySet;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use syscalls::Sysno;

use super::SeccompProgram;
use super::profile::{Argument, Only, Profile, Rule};
use crate::container::capabilities;

/// Programs of one profile; each costs time at every system call.
const MAX_PROGRAMS: usize = 8;

/// The largest error number that the kernel passes on (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;

/// What a profile says that cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// An action that is none.
    #[error("{place}: {action:?} is no action of seccomp")]
    Action {
        /// The call, or the default.
        place: String,
        /// As it stands there.
        action: String,
    },
    /// An action that needs somebody who decides.
    #[error("{place}: SCMP_ACT_NOTIFY needs an agent that decides on calls, which this runtime has not; deny the call instead")]
    Notify {
        /// The call, or the default.
        place: String,
    },
    /// Above 4095.
    #[error("{place}: {errno} is no error number")]
    Errno {
        /// The call, or the default.
        place: String,
        /// As it stands there.
        errno: u32,
    },
    /// A rule about nothing.
    #[error("a rule with the action {0} names no system call")]
    Nameless(String),
    /// A condition that cannot be.
    #[error("{call}: {reason}")]
    Argument {
        /// The call.
        call: String,
        /// Why.
        reason: String,
    },
    /// A capability that is none.
    #[error("{call}: {capability:?} is no capability")]
    Capability {
        /// The call.
        call: String,
        /// As it stands there.
        capability: String,
    },
    /// A version that is none.
    #[error("{call}: minKernel {version:?} is no version of a kernel")]
    Kernel {
        /// The call.
        call: String,
        /// As it stands there.
        version: String,
    },
    /// Different error numbers, mostly.
    #[error("it has more than {MAX_PROGRAMS} different answers")]
    TooManyAnswers,
    /// More instructions than the kernel takes.
    #[error("{0}")]
    Program(String),
}

/// What rules may depend on.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The bounding set of the container.
    pub capabilities: u64,
    /// As Go names it.
    pub arch: &'static str,
    /// Of the running kernel.
    pub kernel: (u32, u32),
}

impl Surroundings {
    /// This machine.
    pub fn here(capabilities: u64) -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Self { capabilities, arch, kernel: version(&release).unwrap_or_default() }
    }
}

/// A compiled profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// In the order in which they are installed.
    pub programs: Vec<SeccompProgram>,
    /// Calls that this architecture has not, or that are newer than this program.
    pub unknown: Vec<String>,
}

/// Rules by system call; an empty list is "whatever its arguments are".
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiles.
///
/// # Errors
/// The profile says what cannot be done; nothing is passed over but names of calls that are not known.
pub fn compile(profile: &Profile, here: &Surroundings) -> Result<Compiled, ProfileError> {
    let default = action(&profile.default_action, profile.default_errno_ret, "defaultAction")?;
    if profile.listener_path.as_ref().is_some_and(|path| !path.is_empty()) {
        return Err(ProfileError::Notify { place: "listenerPath".to_owned() });
    }
    // What any rule names, and each answer with its rules.
    let mut named = Rules::new();
    let mut answers: Vec<(SeccompAction, Rules)> = Vec::new();
    let mut unknown = Vec::new();
    for rule in profile.syscalls.iter().flatten() {
        let first = rule.calls().next().ok_or_else(|| ProfileError::Nameless(rule.action.clone()))?;
        let answer = action(&rule.action, rule.errno_ret, first)?;
        let conditions = conditions(first, rule.args.as_deref().unwrap_or_default())?;
        if !counts(rule, first, here)? || answer == default {
            continue;
        }
        for call in rule.calls() {
            let Ok(number) = call.parse::<Sysno>() else {
                unknown.push(call.to_owned());
                continue;
            };
            let number = i64::from(number.id());
            // The runtime forbids it afterwards; until then it needs it to install the programs.
            if number == libc::SYS_seccomp {
                continue;
            }
            add(&mut named, number, &conditions);
            if answer != SeccompAction::Allow {
                let rules = match answers.iter_mut().find(|(known, _)| *known == answer) {
                    Some((_, rules)) => rules,
                    None => {
                        answers.push((answer.clone(), Rules::new()));
                        &mut answers.last_mut().ok_or(ProfileError::TooManyAnswers)?.1
                    }
                };
                add(rules, number, &conditions);
            }
        }
    }
    add(&mut named, libc::SYS_seccomp, &[]);
    if answers.len() >= MAX_PROGRAMS {
        return Err(ProfileError::TooManyAnswers);
    }
    let mut programs = Vec::with_capacity(answers.len().saturating_add(1));
    if default != SeccompAction::Allow {
        programs.push(program(named, default, SeccompAction::Allow)?);
    }
    for (answer, rules) in answers {
        programs.push(program(rules, SeccompAction::Allow, answer)?);
    }
    Ok(Compiled { programs, unknown })
}

/// One rule without conditions makes those with conditions idle.
fn add(rules: &mut Rules, call: i64, conditions: &[SeccompRule]) {
    match rules.get_mut(&call) {
        Some(known) if known.is_empty() => {}
        Some(known) if conditions.is_empty() => known.clear(),
        Some(known) => known.extend_from_slice(conditions),
        None => {
            rules.insert(call, conditions.to_vec());
        }
    }
}

fn program(rules: Rules, otherwise: SeccompAction, answer: SeccompAction) -> Result<SeccompProgram, ProfileError> {
    let failed = |error: seccompiler::BackendError| ProfileError::Program(error.to_string());
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    let filter = SeccompFilter::new(rules, otherwise, answer, arch).map_err(failed)?;
    let program = BpfProgram::try_from(filter).map_err(failed)?;
    let bytes = program.iter().flat_map(|instruction| {
        let [code_0, code_1] = instruction.code.to_ne_bytes();
        let [k_0, k_1, k_2, k_3] = instruction.k.to_ne_bytes();
        [code_0, code_1, instruction.jt, instruction.jf, k_0, k_1, k_2, k_3]
    });
    Ok(SeccompProgram(bytes.collect()))
}

fn action(name: &str, errno: Option<u32>, place: &str) -> Result<SeccompAction, ProfileError> {
    let place = || place.to_owned();
    let errno = errno.unwrap_or(libc::EPERM.unsigned_abs());
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_ERRNO" if errno > MAX_ERRNO => return Err(ProfileError::Errno { place: place(), errno }),
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(errno),
        // A guest whose thread is killed would stand still for ever.
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        // Nobody traces a guest; the kernel's answer is ENOSYS then.
        "SCMP_ACT_TRACE" => SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        "SCMP_ACT_NOTIFY" => return Err(ProfileError::Notify { place: place() }),
        _ => return Err(ProfileError::Action { place: place(), action: name.to_owned() }),
    })
}

/// All conditions of a rule hold at once; but where two are about the same argument, as older files write "one of these values", each
/// is a rule by itself, as in runc.
fn conditions(call: &str, arguments: &[Argument]) -> Result<Vec<SeccompRule>, ProfileError> {
    let wrong = |reason: String| ProfileError::Argument { call: call.to_owned(), reason };
    let repeated =
        arguments.iter().enumerate().any(|(at, one)| arguments.iter().skip(at + 1).any(|other| other.index == one.index));
    let all = arguments.iter().map(|argument| condition(argument).map_err(wrong)).collect::<Result<Vec<_>, _>>()?;
    let rules: Vec<Vec<SeccompCondition>> = match (all.is_empty(), repeated) {
        (true, _) => Vec::new(),
        (false, true) => all.into_iter().map(|condition| vec![condition]).collect(),
        (false, false) => vec![all],
    };
    rules.into_iter().map(|conditions| SeccompRule::new(conditions).map_err(|error| wrong(error.to_string()))).collect()
}

fn condition(argument: &Argument) -> Result<SeccompCondition, String> {
    let second = argument.value_two.unwrap_or_default();
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, argument.value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, argument.value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, argument.value),
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, argument.value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, argument.value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, argument.value),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(argument.value), second),
        other => return Err(format!("{other:?} is no comparison")),
    };
    let index = u8::try_from(argument.index).map_err(|_| format!("a call has no argument {}", argument.index))?;
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, operator, value)
        .map_err(|_| format!("a call has no argument {}", argument.index))
}

/// Whether a rule counts here: all of `includes` must be so, none of `excludes` may.
fn counts(rule: &Rule, call: &str, here: &Surroundings) -> Result<bool, ProfileError> {
    if let Some(only) = &rule.includes {
        let all_caps = caps(only, call)?.into_iter().all(|capability| here.capabilities & capability.bits() != 0);
        let arch = only.arches.as_ref().is_none_or(|arches| arches.is_empty() || arches.iter().any(|arch| arch == here.arch));
        if !all_caps || !arch || min_kernel(only, call)?.is_some_and(|oldest| here.kernel < oldest) {
            return Ok(false);
        }
    }
    let Some(only) = &rule.excludes else { return Ok(true) };
    let any_cap = caps(only, call)?.into_iter().any(|capability| here.capabilities & capability.bits() != 0);
    let arch = only.arches.iter().flatten().any(|arch| arch == here.arch);
    Ok(!any_cap && !arch && min_kernel(only, call)?.is_none_or(|oldest| here.kernel < oldest))
}

fn caps(only: &Only, call: &str) -> Result<Vec<CapabilitySet>, ProfileError> {
    let unknown = |name: &String| ProfileError::Capability { call: call.to_owned(), capability: name.clone() };
    let look = |name: &String| {
        let known = capabilities::name(name).ok().and_then(|name| CapabilitySet::from_name(&name));
        known.ok_or_else(|| unknown(name))
    };
    only.caps.iter().flatten().map(look).collect()
}

fn min_kernel(only: &Only, call: &str) -> Result<Option<(u32, u32)>, ProfileError> {
    let Some(text) = only.min_kernel.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    version(text).map(Some).ok_or_else(|| ProfileError::Kernel { call: call.to_owned(), version: text.to_owned() })
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
