//! Puts up the layers on Linux, from inside the worker.
//!
//! Nothing here fails loudly: a layer that this kernel or container refuses is
//! left out of the answer, and the parent's policy decides whether that will do.
//! The worker has one thread at this point, so all of it holds for the process.
//! A layer that is there in part goes up and is left out of the answer, too.

#![allow(
    unsafe_code,
    reason = "system calls that no safe wrapper in use here offers"
)]

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};

use super::syscalls::{self, Stage};
use super::{Layer, Layers};
use crate::limits::Limits;
use crate::messages::Role;

/// The Landlock that knows all that the layer promises (Linux 6.12).
const LANDLOCK: ABI = ABI::V6;

/// Open files a worker needs: its line, its page map, memory images.
const FILES_MAX: u64 = 64;

/// Stack of the one thread: deep recursion in the compiler ends here.
const STACK_BYTES: u64 = 32 << 20;

/// Closes everything but the line (0, 1) and standard error (2, which is the null device).
pub(crate) fn close_inherited() {
    // SAFETY: called first thing in the process, before anything here has
    // opened a file, so no descriptor above 2 has an owner.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// Puts up every layer that this machine allows.
pub(crate) fn enforce(role: Role, limits: &Limits) -> Layers {
    let mut layers = Layers::NONE;
    let mut add = |layer, holds: bool| {
        if holds {
            layers = layers.with(layer);
        }
    };
    // The compiler times itself. First of all, since it reads a file.
    add(Layer::Clock, role != Role::Compiler && hide_clocks());
    add(Layer::Limits, bound_resources(role, limits));
    add(Layer::Network, leave_network());
    add(Layer::Capabilities, drop_capabilities());
    add(Layer::NoNewPrivileges, no_new_privileges());
    add(Layer::Landlock, forbid_files());
    add(Layer::Seccomp, syscalls::allow_only(role, Stage::Loading));
    layers
}

/// Once the guest is loaded, before it runs: no new code, no new files.
pub(crate) fn tighten(role: Role) -> bool {
    syscalls::allow_only(role, Stage::Running)
}

fn bound_resources(role: Role, limits: &Limits) -> bool {
    let file_bytes = limits.message_bytes_max(role);
    // Far later than the parent would have ended the step: it never decides
    // about a unit, it only ends a worker that has outlived its parent.
    let cpu_seconds = limits.step_seconds_max.saturating_add(3600);
    let mut holds = limit(libc::RLIMIT_CORE, 0)
        && limit(libc::RLIMIT_NOFILE, FILES_MAX)
        && limit(libc::RLIMIT_FSIZE, file_bytes)
        && limit(libc::RLIMIT_MEMLOCK, 0)
        && limit(libc::RLIMIT_MSGQUEUE, 0)
        && limit(libc::RLIMIT_CPU, cpu_seconds);
    // Not a bound but a need, so that its failure is no lack of one.
    limit(libc::RLIMIT_STACK, STACK_BYTES);
    // SAFETY: plain integers; no core dump of private memory, no tracing by others.
    holds &= unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } == 0;
    holds
}

fn limit(which: libc::__rlimit_resource_t, most: u64) -> bool {
    let wanted = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: `wanted` outlives the call, which only reads it.
    unsafe { libc::setrlimit(which, &raw const wanted) == 0 }
}

fn leave_network() -> bool {
    let spaces = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // An ordinary user may have a network of their own within a user namespace
    // of their own; where that is forbidden, root may have one without.
    // SAFETY: plain integers.
    unsafe { libc::unshare(libc::CLONE_NEWUSER | spaces) == 0 || libc::unshare(spaces) == 0 }
}

fn drop_capabilities() -> bool {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // _LINUX_CAPABILITY_VERSION_3 of capset(2): two words a set.
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let none = [Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: both structures have the layout of capset(2), are read only, and
    // outlive the call.
    unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) == 0 }
}

fn no_new_privileges() -> bool {
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 }
}

/// All that Landlock knows is handled, and nothing is allowed.
fn forbid_files() -> bool {
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    // An older kernel knows files and not yet ports, or not yet processes.
    restricted.is_ok_and(|status| status.ruleset == RulesetStatus::FullyEnforced)
}

/// The clocks that can be read without a system call: both, or it is none of the layer.
fn hide_clocks() -> bool {
    // Newer libcs draw random numbers by the same pages. This thread's only ones, which are
    // the seeds of its hash tables, are drawn here.
    let _ = std::hash::RandomState::new();
    unmap_time().is_some() & hide_counter()
}

/// Takes the pages away in which the kernel tells the vDSO's functions the time; only a system
/// call that no worker may make could bring them back.
///
/// The functions stay: on aarch64 signal handlers return through them, and unwinders look at
/// their headers. Whoever calls one of them for the time ends as a crash.
fn unmap_time() -> Option<()> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut found = false;
    for line in maps.lines() {
        // `7ffd3c5e3000-7ffd3c5e7000 r--p 00000000 00:00 0    [vvar]`, or `[vvar_vclock]`.
        if !line.split(' ').next_back()?.starts_with("[vvar") {
            continue;
        }
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (address(start)?, address(end)?);
        // SAFETY: these pages are the kernel's, read by the vDSO alone, which nobody calls any more.
        let left = unsafe { libc::munmap(start as *mut _, end - start) };
        (left == 0).then_some(())?;
        found = true;
    }
    // A kernel with a vDSO and no such page keeps the time somewhere else.
    (found || !maps.contains("[vdso]")).then_some(())
}

/// From now on `rdtsc` is a signal.
#[cfg(target_arch = "x86_64")]
fn hide_counter() -> bool {
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV, 0, 0, 0) == 0 }
}

#[cfg(not(target_arch = "x86_64"))]
fn hide_counter() -> bool {
    false
}
