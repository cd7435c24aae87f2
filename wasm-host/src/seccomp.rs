//! What every seccomp filter of ours does alike, for guests and for the compile process: a list of calls is let through,
//! threads may be started but no processes, and all else answers ENOSYS, as an older kernel would.
//!
//! So the C library falls back from clone3, which hides its flags from a filter, to clone, which shows that a thread is
//! meant.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Rules by system call; a call without rules is let through whatever its arguments are.
pub(crate) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Lets these calls through, and `clone` for threads.
pub(crate) fn allow(calls: &[i64]) -> Result<Rules, BackendError> {
    let mut rules: Rules = calls.iter().map(|&call| (call, Vec::new())).collect();
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let clone = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![clone])?]);
    Ok(rules)
}

/// The filter for this machine.
pub(crate) fn compile(rules: Rules) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
}
