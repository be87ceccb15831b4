//! Guests that have broken out of WebAssembly, played by native code that runs in
//! the jailed worker while a unit is in flight ([`escape`]).
//!
//! A unit whose text begins with `@` is shown to that code first. It must be able
//! to zero its own contribution and nothing else: not another unit's, not the
//! parent, not a file, not the network.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use noisegate_sandbox::{Isolation, Layer, Layers, Limits, SandboxError, Unit, jail};

use crate::support::Text;
use crate::support_session::{all_sums, declaration, limits, run_with, sums, units};

/// What the attacker does, by the unit's text; the worker's code, so it may not
/// touch anything that the test process holds.
pub fn escape(unit: &Unit) {
    static REMEMBERED: AtomicBool = AtomicBool::new(false);
    if REMEMBERED.load(Ordering::Relaxed) {
        forge();
    }
    let Some(attack) = unit
        .records
        .first()
        .and_then(|it| it.text.strip_prefix('@'))
    else {
        return;
    };
    match attack {
        "remember" => REMEMBERED.store(true, Ordering::Relaxed),
        "segfault" => crash(),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "open" => drop(File::open("/etc/passwd")),
        "write" => drop(std::fs::write("/tmp/noisegate-escaped", "x")),
        "list" => drop(std::fs::read_dir("/")),
        "shrink" => shrink(),
        "hole" => hole(),
        "socket" => drop(std::net::UdpSocket::bind("0.0.0.0:0")),
        "connect" => drop(std::os::unix::net::UnixStream::connect("/run/x")),
        "fork" => drop(std::process::Command::new("/bin/true").spawn()),
        "thread" => drop(std::thread::spawn(|| {})),
        "kill" => {
            let parent = std::os::unix::process::parent_id();
            // SAFETY: a plain system call; the jail ends the process at it.
            unsafe { libc::kill(parent as i32, libc::SIGKILL) };
        }
        "time" => drop(std::time::SystemTime::now()),
        "ticks" => ticks(),
        "coarse time" => coarse_time(),
        "old time" => old_time(),
        "map the time" => map_time(),
        "a deadline" => deadline(),
        // SAFETY: a plain system call: how many processes this machine has started.
        "number" => drop(unsafe { libc::getpid() }),
        "hang up" => hang_up(),
        "nonsense" => talk(&[7; 16]),
        "a long answer" => talk(&answer(u64::MAX)),
        "a short answer" => talk(&answer(4)),
        "a forged refusal" => talk(&header(110, 4)),
        "sleep" => loop {
            std::hint::spin_loop();
        },
        other => panic!("no such attack: {other}"),
    }
}

fn crash() {
    // SAFETY: none; it is the crash that is wanted.
    unsafe { std::ptr::null_mut::<u8>().wrapping_add(8).write_volatile(1) };
}

fn ticks() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a register, or ends the process.
    std::hint::black_box(unsafe { std::arch::x86_64::_rdtsc() });
    #[cfg(not(target_arch = "x86_64"))]
    crash();
}

/// The kernel's page of the time, which needs neither a system call nor the processor's counter.
fn coarse_time() {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to `time`, or ends the process.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut time) };
    std::hint::black_box(time);
}

/// The page at which programs before the vDSO asked for the time.
fn old_time() {
    const TIME: usize = 0xffff_ffff_ff60_0400;
    type Time = unsafe extern "C" fn(*mut libc::time_t) -> libc::time_t;
    // SAFETY: such a function is there, or the process ends.
    let time = unsafe { std::mem::transmute::<usize, Time>(TIME) };
    // SAFETY: takes no pointer.
    std::hint::black_box(unsafe { time(std::ptr::null_mut()) });
}

/// Asks for the kernel's page of the time again.
fn map_time() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `ARCH_MAP_VDSO_64`, where the kernel likes.
    unsafe {
        libc::syscall(libc::SYS_arch_prctl, 0x2003, 0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    crash();
}

/// Asks whether it is later than a second after 1970: waits no time at all if it is.
fn deadline() {
    let (word, how) = (0_u32, libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME);
    let until = libc::timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    // SAFETY: reads `word` and `until`, which outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            &raw const word,
            how,
            0,
            &raw const until,
            0,
            !0,
        )
    };
}

/// Makes the board shorter than what the parent will read of it.
fn shrink() {
    // SAFETY: the attacker uses the worker's descriptor; never closed here.
    let board = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    let _ = board.set_len(0);
}

/// Takes pages away from under the parent's mapping of the board.
fn hole() {
    const LEN: usize = 4096;
    // SAFETY: a mapping of the attacker's own, which nobody else here uses.
    unsafe {
        let (shared, both) = (libc::MAP_SHARED, libc::PROT_READ | libc::PROT_WRITE);
        let page = libc::mmap(std::ptr::null_mut(), LEN, both, shared, 1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        libc::madvise(page, LEN, libc::MADV_REMOVE);
    }
}

fn hang_up() {
    // SAFETY: closes the line under the worker's feet, as an attacker may.
    drop(unsafe { File::from_raw_fd(0) });
    loop {
        std::hint::spin_loop();
    }
}

/// Says something on the line before the worker can.
fn talk(bytes: &[u8]) {
    use std::io::Write;
    // SAFETY: the attacker uses the worker's descriptor; never closed here.
    let mut line = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(0) });
    let _ = line.write_all(bytes);
}

/// Answers in the worker's stead: 16 in the last place of a contribution of four.
fn forge() {
    use std::os::unix::fs::FileExt;
    let forged: Vec<u8> = [0.0_f32, 0.0, 0.0, 16.0]
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    // SAFETY: the attacker uses the worker's descriptor; never closed here.
    let board = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    let _ = board.write_all_at(&forged, 0);
    talk(&answer(16));
    std::process::exit(0);
}

fn answer(len: u64) -> [u8; 16] {
    header(108, len)
}

fn header(kind: u32, len: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&0x6e67_7702_u32.to_le_bytes());
    bytes[4..8].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&len.to_le_bytes());
    bytes
}

const DEADLY: [&str; 24] = [
    "segfault",
    "abort",
    "exit",
    "open",
    "write",
    "list",
    "shrink",
    "hole",
    "socket",
    "connect",
    "fork",
    "thread",
    "kill",
    "time",
    "ticks",
    "coarse time",
    "old time",
    "map the time",
    "a deadline",
    "number",
    "hang up",
    "nonsense",
    "a long answer",
    "a short answer",
];

#[test]
fn a_unit_whose_escape_is_deadly_zeroes_itself_and_nobody_else() {
    for attack in DEADLY {
        let attacker = format!("@{attack}");
        let data = units(&["aa", "b", &attacker, "cccc", "dd"]);
        assert_eq!(
            sums(&Text::default(), &data),
            [9.0, 4.0, 0.0, 0.0],
            "{attack}"
        );
    }
    assert!(!std::path::Path::new("/tmp/noisegate-escaped").exists());
}

#[test]
fn many_deaths_on_few_lanes_still_zero_the_attackers_alone() {
    let texts: Vec<String> = (0..60)
        .map(|i| {
            if i % 7 == 3 {
                "@segfault".to_owned()
            } else {
                "x".repeat(i % 5)
            }
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let honest: Vec<&&str> = texts.iter().filter(|text| !text.starts_with('@')).collect();
    let bytes: usize = honest.iter().map(|text| text.len()).sum();
    let expected = [bytes as f32, honest.len() as f32, 0.0, 0.0];
    assert_eq!(sums(&Text::default(), &units(&texts)), expected);
}

#[test]
fn a_refusal_forged_while_a_unit_is_in_flight_ends_the_step_and_names_nothing() {
    let data = units(&["aa", "@a forged refusal"]);
    let ended = run_with(&Text::default(), &data, &limits(), declaration(1));
    assert!(matches!(ended, Err(SandboxError::Killed)));
}

#[test]
fn an_escaped_guest_that_never_answers_ends_the_step_by_the_clock() {
    let impatient = Limits {
        step_seconds_max: 2,
        ..limits()
    };
    let started = Instant::now();
    let data = units(&["aa", "@sleep"]);
    let ended = run_with(&Text::default(), &data, &impatient, declaration(1));
    assert!(matches!(ended, Err(SandboxError::TimedOut { .. })));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn with_a_process_for_every_unit_the_sums_are_the_same() {
    let mut apart = limits();
    apart.isolation.process_per_unit = true;
    let data = units(&["aa", "@segfault", "b", "cccc"]);
    let found = all_sums(&Text::default(), &data, &apart, &declaration(1));
    assert_eq!(found, [[7.0, 3.0, 0.0, 0.0]]);
}

/// What the promise rests on: within one process, only WebAssembly keeps units apart.
#[test]
fn an_escaped_guest_remembers_within_its_process_and_not_beyond_it() {
    let data = units(&["@remember", "a", "b"]);
    let one_lane = Limits {
        threads: 1,
        ..limits()
    };
    let shared = all_sums(&Text::default(), &data, &one_lane, &declaration(1));
    assert_eq!(shared[0][3], 16.0, "the attack works: {shared:?}");

    let mut apart = one_lane;
    apart.isolation.process_per_unit = true;
    let found = all_sums(&Text::default(), &data, &apart, &declaration(1));
    assert_eq!(found, [[11.0, 3.0, 0.0, 0.0]]);
}

#[test]
fn made_up_units_that_fill_a_batch_count_for_nothing() {
    let mut padded = limits();
    padded.isolation = Isolation {
        pad_batches: true,
        query_ms: 30,
        ..Isolation::default()
    };
    let declared = declaration(40);
    let data = units(&["aa", "b", "cccc"]);
    let started = Instant::now();
    let found = all_sums(&Text::default(), &data, &padded, &declared);
    assert_eq!(found, [[7.0, 3.0, 0.0, 0.0]]);
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[test]
fn this_kernel_puts_up_at_least_the_default_layers() {
    let found = jail::probe().unwrap();
    assert!(
        Isolation::default().required.without(found).is_empty(),
        "{found}"
    );
    println!("layers here: {found}");
}

#[test]
fn a_missing_layer_is_named_and_no_guest_is_run() {
    let everything: Layers = Layer::ALL.into_iter().collect();
    let lacking = everything.without(jail::probe().unwrap());
    let mut strict = limits();
    strict.isolation.required = everything;
    match run_with(&Text::default(), &[], &strict, declaration(1)) {
        Err(SandboxError::Jail { missing }) => {
            assert!(lacking.iter().all(|layer| missing.contains(layer.name())));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => assert!(lacking.is_empty()),
    }
}
