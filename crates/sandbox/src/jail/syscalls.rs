//! The allow-list of system calls. All others kill the worker (`SIGSYS`).
//!
//! | stage | may, beyond memory, signals, exit and its line |
//! |---|---|
//! | compiler | start threads |
//! | loading | make memory files and executable memory |
//! | running | reset its own pages (`PAGEMAP_SCAN`) |
//!
//! Reading and writing is allowed on the line's two descriptors alone once a
//! guest runs. There is no clock, no `open`, no socket, no process, no signal to
//! anybody else, and no lock on the board that could be seen from outside.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::messages::Role;

/// How much a worker still has to do before it may run its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Compiles, or loads what was compiled.
    Loading,
    /// Runs the guest.
    Running,
}

/// `ioctl(2)` on `/proc/self/pagemap`; tells which of its own pages a process wrote.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

const SOCKET: u64 = 0;
const BOARD: u64 = 1;
const NULL_DEVICE: u64 = 2;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Kills the process at any call that `role` has no need of; false if the kernel cannot.
pub(crate) fn allow_only(role: Role, stage: Stage) -> bool {
    let installed = rules(role, stage).and_then(|rules| install(rules, role));
    installed.is_ok()
}

fn install(rules: Rules, role: Role) -> Result<(), Box<dyn std::error::Error>> {
    let arch = std::env::consts::ARCH.try_into()?;
    if role == Role::Compiler {
        // Refused rather than deadly: glibc then starts threads by `clone`, whose
        // flags can be looked at, and its allocator does without counting cores.
        for (call, error) in [
            (libc::SYS_clone3, libc::ENOSYS),
            (libc::SYS_openat, libc::EACCES),
        ] {
            let refused = [(call, Vec::new())].into_iter().collect();
            let action = SeccompAction::Errno(error as u32);
            let filter = SeccompFilter::new(refused, SeccompAction::Allow, action, arch)?;
            seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
        }
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        arch,
    )?;
    Ok(seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?)
}

fn rules(role: Role, stage: Stage) -> Result<Rules, Box<dyn std::error::Error>> {
    let mut rules = Rules::new();
    let mut always = |calls: &[i64]| {
        rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    };
    // Memory, of its own alone; signals, for itself alone; the end.
    always(&[
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_sched_yield,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_restart_syscall,
    ]);
    match stage {
        Stage::Loading => {
            // Images of the guest's memory are written to files of memory, and
            // its code is made executable.
            always(&[
                libc::SYS_mmap,
                libc::SYS_mprotect,
                libc::SYS_membarrier,
                libc::SYS_memfd_create,
                libc::SYS_ftruncate,
                libc::SYS_write,
                libc::SYS_fcntl,
                libc::SYS_seccomp,
            ]);
            allow(
                &mut rules,
                libc::SYS_prctl,
                0,
                libc::PR_SET_NO_NEW_PRIVS as u64,
            )?;
        }
        Stage::Running => {
            for call in [libc::SYS_mmap, libc::SYS_mprotect] {
                let executable = libc::PROT_EXEC as u64;
                let condition =
                    SeccompCondition::new(2, Width::Dword, Is::MaskedEq(executable), 0)?;
                rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
            }
            allow(&mut rules, libc::SYS_write, 0, SOCKET)?;
            allow(&mut rules, libc::SYS_write, 0, NULL_DEVICE)?;
        }
    }
    allow(&mut rules, libc::SYS_read, 0, SOCKET)?;
    allow(&mut rules, libc::SYS_pread64, 0, BOARD)?;
    allow(&mut rules, libc::SYS_pwrite64, 0, BOARD)?;
    allow(&mut rules, libc::SYS_ioctl, 1, PAGEMAP_SCAN)?;
    // Any advice but one: it would punch holes into the board, under the parent's eyes.
    let holes = libc::MADV_REMOVE as u64;
    let others = SeccompCondition::new(2, Width::Dword, Is::Ne, holes)?;
    rules.insert(libc::SYS_madvise, vec![SeccompRule::new(vec![others])?]);
    // `abort`, so that a defect ends as one.
    let itself = SeccompCondition::new(0, Width::Dword, Is::Eq, u64::from(std::process::id()))?;
    let aborts = SeccompCondition::new(2, Width::Dword, Is::Eq, libc::SIGABRT as u64)?;
    rules.insert(
        libc::SYS_tgkill,
        vec![SeccompRule::new(vec![itself, aborts])?],
    );
    if role == Role::Compiler {
        allow_threads(&mut rules)?;
    }
    Ok(rules)
}

/// The compiler uses every core.
fn allow_threads(rules: &mut Rules) -> Result<(), Box<dyn std::error::Error>> {
    let thread = libc::CLONE_THREAD as u64;
    let condition = SeccompCondition::new(0, Width::Dword, Is::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![condition])?]);
    let calls = [
        // Both refused by the filters above.
        libc::SYS_clone3,
        libc::SYS_openat,
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_sched_getaffinity,
    ];
    rules.extend(calls.map(|call| (call, Vec::new())));
    allow(rules, libc::SYS_prctl, 0, libc::PR_SET_NAME as u64)
}

/// Allows `call` when its argument `index` is `value`, besides what is allowed already.
fn allow(
    rules: &mut Rules,
    call: i64,
    index: u8,
    value: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let condition = SeccompCondition::new(index, Width::Dword, Is::Eq, value)?;
    let rule = SeccompRule::new(vec![condition])?;
    rules.entry(call).or_default().push(rule);
    Ok(())
}
