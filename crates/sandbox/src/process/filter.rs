//! The allow-list of system calls. What is not on it fails with `EPERM`; what programs probe for and
//! do well without fails with `ENOSYS`.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Requests of `arch_prctl` for registers that a process has only with the kernel's permission.
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
const ARCH_REQ_XCOMP_GUEST_PERM: u64 = 0x1025;

/// All that an interpreter, a shell, a compiler and a small server need, and nothing that reaches the
/// kernel's administration: no mounts, modules, keys, namespaces, tracing, `bpf`, `io_uring`,
/// `userfaultfd`, `perf`, or handles of files.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    libc::SYS_read, libc::SYS_write, libc::SYS_open, libc::SYS_close, libc::SYS_stat, libc::SYS_fstat, libc::SYS_lstat,
    libc::SYS_poll, libc::SYS_lseek, libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_munmap, libc::SYS_brk,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_ioctl, libc::SYS_pread64,
    libc::SYS_pwrite64, libc::SYS_readv, libc::SYS_writev, libc::SYS_access, libc::SYS_pipe, libc::SYS_select,
    libc::SYS_sched_yield, libc::SYS_mremap, libc::SYS_msync, libc::SYS_mincore, libc::SYS_madvise, libc::SYS_shmget,
    libc::SYS_shmat, libc::SYS_shmctl, libc::SYS_dup, libc::SYS_dup2, libc::SYS_pause, libc::SYS_nanosleep,
    libc::SYS_getitimer, libc::SYS_alarm, libc::SYS_setitimer, libc::SYS_getpid, libc::SYS_sendfile,
    libc::SYS_connect, libc::SYS_accept, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg,
    libc::SYS_shutdown, libc::SYS_bind, libc::SYS_listen, libc::SYS_getsockname, libc::SYS_getpeername,
    libc::SYS_socketpair, libc::SYS_setsockopt, libc::SYS_getsockopt, libc::SYS_fork, libc::SYS_vfork,
    libc::SYS_execve, libc::SYS_exit, libc::SYS_wait4, libc::SYS_kill, libc::SYS_uname, libc::SYS_semget,
    libc::SYS_semop, libc::SYS_semctl, libc::SYS_shmdt, libc::SYS_msgget, libc::SYS_msgsnd, libc::SYS_msgrcv,
    libc::SYS_msgctl, libc::SYS_fcntl, libc::SYS_flock, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_truncate,
    libc::SYS_ftruncate, libc::SYS_getdents, libc::SYS_getcwd, libc::SYS_chdir, libc::SYS_fchdir, libc::SYS_rename,
    libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_creat, libc::SYS_link, libc::SYS_unlink, libc::SYS_symlink,
    libc::SYS_readlink, libc::SYS_chmod, libc::SYS_fchmod, libc::SYS_chown, libc::SYS_fchown, libc::SYS_lchown,
    libc::SYS_umask, libc::SYS_gettimeofday, libc::SYS_getrlimit, libc::SYS_getrusage, libc::SYS_sysinfo,
    libc::SYS_times, libc::SYS_getuid, libc::SYS_getgid, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_geteuid,
    libc::SYS_getegid, libc::SYS_setpgid, libc::SYS_getppid, libc::SYS_getpgrp, libc::SYS_setsid, libc::SYS_setreuid,
    libc::SYS_setregid, libc::SYS_getgroups, libc::SYS_setgroups, libc::SYS_setresuid, libc::SYS_getresuid,
    libc::SYS_setresgid, libc::SYS_getresgid, libc::SYS_getpgid, libc::SYS_setfsuid, libc::SYS_setfsgid,
    libc::SYS_getsid, libc::SYS_capget, libc::SYS_capset, libc::SYS_rt_sigpending, libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigqueueinfo, libc::SYS_rt_sigsuspend, libc::SYS_sigaltstack, libc::SYS_utime, libc::SYS_mknod,
    libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_getpriority, libc::SYS_setpriority, libc::SYS_sched_setparam,
    libc::SYS_sched_getparam, libc::SYS_sched_setscheduler, libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min, libc::SYS_mlock, libc::SYS_munlock,
    libc::SYS_mlockall, libc::SYS_munlockall, libc::SYS_prctl, libc::SYS_arch_prctl, libc::SYS_setrlimit,
    libc::SYS_sync, libc::SYS_gettid, libc::SYS_readahead, libc::SYS_setxattr, libc::SYS_lsetxattr,
    libc::SYS_fsetxattr, libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_fgetxattr, libc::SYS_listxattr,
    libc::SYS_llistxattr, libc::SYS_flistxattr, libc::SYS_removexattr, libc::SYS_lremovexattr,
    libc::SYS_fremovexattr, libc::SYS_tkill, libc::SYS_time, libc::SYS_futex, libc::SYS_sched_setaffinity,
    libc::SYS_sched_getaffinity, libc::SYS_epoll_create, libc::SYS_getdents64, libc::SYS_set_tid_address,
    libc::SYS_restart_syscall, libc::SYS_semtimedop, libc::SYS_fadvise64, libc::SYS_timer_create,
    libc::SYS_timer_settime, libc::SYS_timer_gettime, libc::SYS_timer_getoverrun, libc::SYS_timer_delete,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_exit_group,
    libc::SYS_epoll_wait, libc::SYS_epoll_ctl, libc::SYS_tgkill, libc::SYS_utimes, libc::SYS_mq_open,
    libc::SYS_mq_unlink, libc::SYS_mq_timedsend, libc::SYS_mq_timedreceive, libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr, libc::SYS_waitid, libc::SYS_inotify_init, libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch, libc::SYS_openat, libc::SYS_mkdirat, libc::SYS_mknodat, libc::SYS_fchownat,
    libc::SYS_futimesat, libc::SYS_newfstatat, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_linkat,
    libc::SYS_symlinkat, libc::SYS_readlinkat, libc::SYS_fchmodat, libc::SYS_faccessat, libc::SYS_pselect6,
    libc::SYS_ppoll, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_splice, libc::SYS_tee,
    libc::SYS_sync_file_range, libc::SYS_utimensat, libc::SYS_epoll_pwait, libc::SYS_signalfd,
    libc::SYS_timerfd_create, libc::SYS_eventfd, libc::SYS_fallocate, libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime, libc::SYS_accept4, libc::SYS_signalfd4, libc::SYS_eventfd2, libc::SYS_epoll_create1,
    libc::SYS_dup3, libc::SYS_pipe2, libc::SYS_inotify_init1, libc::SYS_preadv, libc::SYS_pwritev,
    libc::SYS_rt_tgsigqueueinfo, libc::SYS_recvmmsg, libc::SYS_prlimit64, libc::SYS_syncfs, libc::SYS_sendmmsg,
    libc::SYS_getcpu, libc::SYS_sched_setattr, libc::SYS_sched_getattr, libc::SYS_renameat2, libc::SYS_seccomp,
    libc::SYS_getrandom, libc::SYS_memfd_create, libc::SYS_execveat, libc::SYS_membarrier, libc::SYS_mlock2,
    libc::SYS_copy_file_range, libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_statx, libc::SYS_rseq,
    libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_close_range, libc::SYS_faccessat2,
    libc::SYS_epoll_pwait2, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
];

/// Calls that programs try first and replace by older ones.
const ABSENT: &[c_long] = &[
    libc::SYS_clone3,
    libc::SYS_openat2,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// The compiled filter: `struct sock_filter` after `struct sock_filter`.
pub(super) fn compile() -> Result<Vec<u8>, seccompiler::BackendError> {
    // One filter on top of the other: the kernel takes the stricter answer of the two.
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let masked = |argument, mask: u64, value: u64| {
        let equal = SeccompCmpOp::MaskedEq(mask);
        SeccompRule::new(vec![SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Qword,
            equal,
            value,
        )?])
    };
    // New threads and processes, but no new namespace.
    let namespaces = super::sys::NAMESPACES | libc::CLONE_NEWTIME as u64;
    allowed.insert(libc::SYS_clone, vec![masked(0, namespaces, 0)?]);
    // Sockets of this world's own kind only: no raw packets, no kernel interfaces but routing's.
    let family = |family: i32| {
        SeccompRule::new(vec![SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            family as u64,
        )?])
    };
    let equal = |argument, value: i32| {
        SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            value as u64,
        )
    };
    let routing = SeccompRule::new(vec![
        equal(0, libc::AF_NETLINK)?,
        equal(2, libc::NETLINK_ROUTE)?,
    ])?;
    allowed.insert(
        libc::SYS_socket,
        vec![
            family(libc::AF_UNIX)?,
            family(libc::AF_INET)?,
            family(libc::AF_INET6)?,
            routing,
        ],
    );
    // A program asks which personality it has; it may not change it, but for one value that is the same.
    let personality = |value: u64| {
        SeccompRule::new(vec![SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            value,
        )?])
    };
    allowed.insert(
        libc::SYS_personality,
        vec![personality(0)?, personality(0xffff_ffff)?],
    );
    // Putting words into a terminal's input is how a program speaks to the shell behind it.
    let ioctl = |request: u64| {
        SeccompRule::new(vec![SeccompCondition::new(
            1,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Ne,
            request,
        )?])
    };
    allowed.insert(libc::SYS_ioctl, vec![ioctl(libc::TIOCSTI)?]);
    // The permission for tile registers (AMX) is a process's own: a branch is another process, and would end
    // at its first such instruction. Programs that are refused it compute without.
    let other_than =
        |value: u64| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value);
    let registers = SeccompRule::new(vec![
        other_than(ARCH_REQ_XCOMP_PERM)?,
        other_than(ARCH_REQ_XCOMP_GUEST_PERM)?,
    ])?;
    allowed.insert(libc::SYS_arch_prctl, vec![registers]);
    for absent in ABSENT {
        allowed.remove(absent);
    }
    let refuse = SeccompFilter::new(
        allowed,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(bytes(&absent_first(&refuse.try_into()?)))
}

/// Puts "not in this kernel" before the answers of the allow-list.
///
/// The filter begins with three instructions that check the architecture and two that load the number
/// of the call; a check for each absent call follows them, and then one of arguments.
fn absent_first(program: &BpfProgram) -> BpfProgram {
    const LOAD_NUMBER: (u16, u32) = (0x20, 0);
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ERRNO: u32 = 0x0005_0000;
    let at = program
        .iter()
        .position(|one| (one.code, one.k) == LOAD_NUMBER)
        .map_or(0, |at| at + 1);
    let mut whole = program[..at].to_vec();
    for absent in ABSENT {
        whole.push(seccompiler::sock_filter {
            code: JUMP_IF_EQUAL,
            jt: 0,
            jf: 1,
            k: *absent as u32,
        });
        whole.push(seccompiler::sock_filter {
            code: RETURN,
            jt: 0,
            jf: 0,
            k: ERRNO | libc::ENOSYS as u32,
        });
    }
    whole.extend(no_growth());
    whole.extend_from_slice(&program[at..]);
    whole
}

/// Refuses `mremap` that would make memory larger, as if there were no room; allocators copy then. In a
/// branch the memory is a snapshot's file, and what grows in its place would be whatever follows there.
fn no_growth() -> [seccompiler::sock_filter; 12] {
    const LOAD: u16 = 0x20;
    const TO_X: u16 = 0x07;
    const IF_EQUAL: u16 = 0x15;
    const IF_EQUAL_X: u16 = 0x1d;
    const IF_GREATER_X: u16 = 0x2d;
    const RETURN: u16 = 0x06;
    const NO_ROOM: u32 = 0x0005_0000 | libc::ENOMEM as u32;
    // `struct seccomp_data`: the number, then, from 16 on, arguments as low and high halves.
    const NUMBER: u32 = 0;
    const OLD: [u32; 2] = [24, 28];
    const NEW: [u32; 2] = [32, 36];
    let step = |code, jt, jf, k| seccompiler::sock_filter { code, jt, jf, k };
    [
        step(IF_EQUAL, 0, 11, libc::SYS_mremap as u32),
        step(LOAD, 0, 0, OLD[1]),
        step(TO_X, 0, 0, 0),
        step(LOAD, 0, 0, NEW[1]),
        step(IF_GREATER_X, 5, 0, 0),
        step(IF_EQUAL_X, 0, 5, 0),
        step(LOAD, 0, 0, OLD[0]),
        step(TO_X, 0, 0, 0),
        step(LOAD, 0, 0, NEW[0]),
        step(IF_GREATER_X, 0, 1, 0),
        step(RETURN, 0, 0, NO_ROOM),
        step(LOAD, 0, 0, NUMBER),
    ]
}

fn bytes(program: &BpfProgram) -> Vec<u8> {
    program
        .iter()
        .flat_map(|one| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&one.code.to_le_bytes());
            bytes[2] = one.jt;
            bytes[3] = one.jf;
            bytes[4..].copy_from_slice(&one.k.to_le_bytes());
            bytes
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_fits_the_kernel() {
        const MOST_INSTRUCTIONS: usize = 4096;
        let filter = compile().unwrap();
        assert!(filter.len() / 8 <= MOST_INSTRUCTIONS);
    }

    #[test]
    fn nothing_that_administers_the_kernel_is_on_the_list() {
        for call in [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_ptrace,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_open_by_handle_at,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_fsopen,
            libc::SYS_move_mount,
        ] {
            assert!(!ALLOWED.contains(&call), "{call}");
        }
    }
}
