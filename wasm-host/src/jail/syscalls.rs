//! seccomp: the system calls that a guest process may make.
//!
//! An allow-list of what wasmtime, its WASI implementation, tokio and the C library use to run one guest. All else answers ENOSYS,
//! as an older kernel would, so that a library that merely probes falls back. The program is built once by the supervisor and installed by each child.

use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::JailError;
use crate::seccomp;

/// A compiled filter.
#[derive(Debug)]
pub struct Filter(BpfProgram);

/// Allowed with any arguments.
const ALLOWED: &[i64] = &[
    // Files, by descriptors below the preopened root.
    libc::SYS_openat2,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_ioctl,
    libc::SYS_flock,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_pipe2,
    libc::SYS_memfd_create,
    // Memory. Loading compiled code maps and protects executable pages.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    // Threads, signals and time.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Sockets of the families allowed below.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // x86-64 keeps older calls beside the newer ones; other architectures have the newer alone.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_accept,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];

impl Filter {
    /// Compiles the list for this machine.
    pub fn compile() -> Result<Self, JailError> {
        let failed = |error| JailError::new("compiling the seccomp filter", std::io::Error::other(error));
        let mut rules = seccomp::allow(ALLOWED).map_err(failed)?;
        // IPv4 and IPv6 only: no packet sockets, no netlink, and no unix socket to whatever lies on a mounted volume.
        let families = [libc::AF_INET, libc::AF_INET6].map(|family| equals(0, family.unsigned_abs().into()));
        rules.insert(libc::SYS_socket, collect(families)?);
        // Names of threads, and the calls by which glibc and tokio look at themselves.
        let controls =
            [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA].map(|option| equals(0, option.unsigned_abs().into()));
        rules.insert(libc::SYS_prctl, collect(controls)?);
        // Signals only to itself: tgkill is allowed above and reaches other processes of the same user, but Landlock's scope forbids it.
        seccomp::compile(rules).map(Self).map_err(failed)
    }

    /// Installs the filter in the calling thread and all that it starts.
    pub(super) fn apply(&self) -> Result<(), JailError> {
        seccompiler::apply_filter(&self.0)
            .map_err(|error| JailError::new("installing the seccomp filter", std::io::Error::other(error)))
    }
}

/// Installs a program of the pod's own profile, compiled by the daemon, in the calling thread. It comes before [`Filter::apply`], which
/// forbids it; the kernel takes the most restrictive answer of all.
#[allow(unsafe_code, reason = "seccomp(2), which seccompiler only makes together with a prctl that a profile may forbid")]
pub(super) fn apply_asked(program: &[u8]) -> Result<(), JailError> {
    let failed = |error: std::io::Error| JailError::new("installing the pod's seccomp profile", error);
    let mut instructions: Vec<libc::sock_filter> = program
        .chunks_exact(size_of::<libc::sock_filter>())
        .filter_map(|bytes| {
            let &[code_0, code_1, jt, jf, k_0, k_1, k_2, k_3] = bytes else { return None };
            Some(libc::sock_filter {
                code: u16::from_ne_bytes([code_0, code_1]),
                jt,
                jf,
                k: u32::from_ne_bytes([k_0, k_1, k_2, k_3]),
            })
        })
        .collect();
    let length = u16::try_from(instructions.len()).map_err(|error| failed(std::io::Error::other(error)))?;
    let program = libc::sock_fprog { len: length, filter: instructions.as_mut_ptr() };
    // SAFETY: the program lives until the call returns; the kernel copies and checks it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program)) };
    if result == 0 { Ok(()) } else { Err(failed(std::io::Error::last_os_error())) }
}

fn equals(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// One rule for each condition: any of them lets the call through.
fn collect<const N: usize>(
    conditions: [Result<SeccompCondition, seccompiler::BackendError>; N],
) -> Result<Vec<SeccompRule>, JailError> {
    conditions
        .into_iter()
        .map(|condition| SeccompRule::new(vec![condition?]))
        .collect::<Result<_, _>>()
        .map_err(|error| JailError::new("compiling the seccomp filter", std::io::Error::other(error)))
}
