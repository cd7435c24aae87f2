//! What the compiler gives away before it looks at the wasm file: everything but its open files, memory and time.
//!
//! In this order: network, priority, user, limits, privileges to be gained, file system, system calls. Each applies to the
//! calling thread and to those that it starts, so there must be no other yet.

use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use rustix::thread::{
    Gid, Uid, UnshareFlags, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};

use super::CompileLimits;
use crate::seccomp;

/// `nobody`: owns no file and runs, on most machines, nothing.
const NOBODY: u32 = 65534;

/// Files that may be open: the two, the streams, and the few of threads and signals.
const OPEN_FILES: u64 = 32;

#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    #[error("{step}: {source}")]
    System { step: &'static str, source: io::Error },
    #[error("landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("seccomp: {0}")]
    Seccomp(String),
}

/// Confines the calling thread and all that it starts. `stacks` is memory for threads, beside the limit, in bytes.
pub(super) fn confine(limits: CompileLimits, stacks: u64) -> Result<(), ConfineError> {
    let step = |step| move |error: rustix::io::Errno| ConfineError::System { step, source: error.into() };
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        // SAFETY: the process has one thread, and shares no file table with another. Where the kernel refuses (inside
        // a container), the system call filter below still leaves no way to a network.
        let _ = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
    }
    nice(19).map_err(step("nice"))?;
    if is_root {
        let (group, user) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        set_thread_groups(&[]).map_err(step("setgroups"))?;
        set_thread_res_gid(group, group, group).map_err(step("setresgid"))?;
        // Drops all capabilities, and keeps other processes of this user from looking into this one.
        set_thread_res_uid(user, user, user).map_err(step("setresuid"))?;
    }
    // Nobody waits for the code any more once the daemon is gone, and the next daemon compiles again. After the change of user, which
    // would clear it; the thread that has started this process is one of the executor's, which live as long as the daemon.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(step("parent death signal"))?;
    let limit = |resource, soft, hard| setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) });
    let memory = limits.memory_bytes.saturating_add(stacks);
    limit(Resource::Data, memory, memory).map_err(step("limit of memory"))?;
    limit(Resource::Fsize, limits.memory_bytes, limits.memory_bytes).map_err(step("limit of the output"))?;
    limit(Resource::Core, 0, 0).map_err(step("limit of core files"))?;
    limit(Resource::Nofile, OPEN_FILES, OPEN_FILES).map_err(step("limit of files"))?;
    limit(Resource::Cpu, limits.cpu_seconds, limits.cpu_seconds.saturating_add(1)).map_err(step("limit of time"))?;
    set_no_new_privs(true).map_err(step("no_new_privs"))?;
    landlock()?;
    restrict_calls()
}

/// No path, no TCP port, no signal, no abstract socket. Kernels without Landlock rely on the system call filter.
fn landlock() -> Result<(), ConfineError> {
    let abi = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(())
}

/// Memory, threads, time, and reading and writing what is open.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_close,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_prctl,
];

fn restrict_calls() -> Result<(), ConfineError> {
    let program = seccomp::allow(ALLOWED).and_then(seccomp::compile);
    let program = program.map_err(|error| ConfineError::Seccomp(error.to_string()))?;
    seccompiler::apply_filter(&program).map_err(|error| ConfineError::Seccomp(error.to_string()))
}
