//! The allow-list of system calls. All others kill the worker (`SIGSYS`).
//!
//! | stage | may, beyond memory, signals, exit and its line |
//! |---|---|
//! | compiler | start threads, wait for them |
//! | loading | make and seal memory files, make what it has written executable |
//! | running | reset its own pages (`PAGEMAP_SCAN`) |
//!
//! Reading and writing is allowed on the line's two descriptors alone once a
//! guest runs, which is before its first instruction. No call of a worker that runs
//! guests tells or compares the time (it has one thread, which never waits for
//! another) or numbers processes. There is no `open`, no socket, no process, no
//! signal to anybody, and no lock on the board that could be seen from outside.
//!
//! Not here: clocks that need no call ([`super::linux`]).

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
    // Memory, of its own alone; what to do at a signal; the end. `abort` is none of
    // them, since it asks for the process's number: it ends a worker as any other call does.
    always(&[
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_getrandom,
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
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
                libc::SYS_membarrier,
                libc::SYS_memfd_create,
                libc::SYS_ftruncate,
                libc::SYS_write,
                libc::SYS_seccomp,
            ]);
            allow(&mut rules, libc::SYS_fcntl, 1, libc::F_ADD_SEALS as u64)?;
            allow_without(&mut rules, libc::SYS_mprotect, libc::PROT_WRITE)?;
            allow(
                &mut rules,
                libc::SYS_prctl,
                0,
                libc::PR_SET_NO_NEW_PRIVS as u64,
            )?;
        }
        Stage::Running => {
            allow(&mut rules, libc::SYS_write, 0, SOCKET)?;
            allow(&mut rules, libc::SYS_write, 0, NULL_DEVICE)?;
        }
    }
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        allow_without(&mut rules, call, libc::PROT_EXEC)?;
    }
    allow(&mut rules, libc::SYS_read, 0, SOCKET)?;
    allow(&mut rules, libc::SYS_pread64, 0, BOARD)?;
    allow(&mut rules, libc::SYS_pwrite64, 0, BOARD)?;
    allow(&mut rules, libc::SYS_ioctl, 1, PAGEMAP_SCAN)?;
    // Any advice but one: it would punch holes into the board, under the parent's eyes.
    let holes = libc::MADV_REMOVE as u64;
    let others = SeccompCondition::new(2, Width::Dword, Is::Ne, holes)?;
    rules.insert(libc::SYS_madvise, vec![SeccompRule::new(vec![others])?]);
    if role == Role::Compiler {
        allow_threads(&mut rules)?;
    } else {
        // libc wakes others without looking whether there are any.
        let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        allow(&mut rules, libc::SYS_futex, 1, wake as u64)?;
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
        libc::SYS_futex,
        // What Rust's standard library notes of a thread whose stack could overflow.
        libc::SYS_gettid,
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

/// Allows `mmap` or `mprotect` without this right, besides what is allowed already.
fn allow_without(
    rules: &mut Rules,
    call: i64,
    right: i32,
) -> Result<(), Box<dyn std::error::Error>> {
    let condition = SeccompCondition::new(2, Width::Dword, Is::MaskedEq(right as u64), 0)?;
    let rule = SeccompRule::new(vec![condition])?;
    rules.entry(call).or_default().push(rule);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code, reason = "attacks are plain system calls")]

    use std::ptr::null_mut;

    use super::*;

    const BOTH: [Stage; 2] = [Stage::Loading, Stage::Running];

    /// The signal that ends a process of its own which may do no more than a private worker.
    fn ended_by(stage: Stage, attack: unsafe fn()) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let mut status = 0;
        // SAFETY: the child goes on with a copy of this one thread, and ends here.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                if allow_only(Role::Private, stage) {
                    attack();
                }
                libc::_exit(0);
            }
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        }
        std::process::ExitStatus::from_raw(status).signal()
    }

    unsafe fn futex(how: i32, until: *const libc::timespec) {
        let word = 0_u32;
        // SAFETY: reads `word` and what is at `until`.
        unsafe { libc::syscall(libc::SYS_futex, &raw const word, how, 1, until, 0, !0) };
    }

    unsafe fn page(rights: i32) -> *mut libc::c_void {
        let own = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new page, wherever the kernel likes.
        unsafe { libc::mmap(null_mut(), 4096, rights, own, -1, 0) }
    }

    const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
    const READ_RUN: i32 = libc::PROT_READ | libc::PROT_EXEC;
    /// Of `<fcntl.h>`.
    const F_SETSIG: i32 = 10;

    #[test]
    fn attacks_of_any_stage_are_deadly() {
        // SAFETY: each runs in a process of its own, which ends with it.
        let attacks: [(&str, unsafe fn()); 11] = unsafe {
            [
                ("own", || _ = libc::fcntl(0, libc::F_SETOWN, 1)),
                ("signal", || _ = libc::fcntl(0, F_SETSIG, libc::SIGKILL)),
                ("async", || _ = libc::fcntl(0, libc::F_SETFL, libc::O_ASYNC)),
                ("lock", || _ = libc::fcntl(1, libc::F_GETLK, 0)),
                ("run", || _ = page(READ_RUN)),
                ("write and run", || _ = page(READ_WRITE | READ_RUN)),
                ("both later", || {
                    libc::mprotect(page(READ_WRITE), 4096, READ_WRITE | READ_RUN);
                }),
                ("deadline", || {
                    let until = std::mem::zeroed();
                    futex(
                        libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME,
                        &raw const until,
                    );
                }),
                ("wait", || {
                    futex(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, null_mut())
                }),
                ("process", || _ = libc::getpid()),
                ("thread", || _ = libc::gettid()),
            ]
        };
        let survived = |stage, attack| ended_by(stage, attack) != Some(libc::SIGSYS);
        let survivors: Vec<_> = BOTH
            .into_iter()
            .flat_map(|stage| attacks.map(|(name, attack)| (stage, name, attack)))
            .filter(|(stage, _, attack)| survived(*stage, *attack))
            .map(|(stage, name, _)| (stage, name))
            .collect();
        assert!(survivors.is_empty(), "{survivors:?}");
    }
}
