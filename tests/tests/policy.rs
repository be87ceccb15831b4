//! What a site's operator requires of the sandbox, in `<home>/sites/SITE/policy.toml`: a
//! machine that lacks it is refused, and so is a policy that is not understood. Neither
//! charges anything.

use std::process::Command;

use noisegate_tests::{Story, Told, gated};

/// A story whose cap leaves room for one run.
fn story(policy: &str) -> Story {
    let story = gated::story(&"{\"text\":\"a note\",\"label\":\"delay\"}\n".repeat(12));
    story.write("home/sites/clinic/policy.toml", policy);
    story
}

fn run(story: &Story, change: fn(&mut Command)) -> Told {
    let plugins = story.path().join("plugins").display().to_string();
    let cap = "data.notes.budget.epsilon=2.5";
    let mut command = story.command(&["--plugins", &plugins, "run", "gated.toml", "--set", cap]);
    change(&mut command);
    let output = command.output().unwrap();
    Told {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asserts that a run is refused for all of `reasons`, and that the budget is whole afterwards.
#[track_caller]
fn refused(story: &Story, change: fn(&mut Command), reasons: &[&str]) {
    let told = run(story, change);
    assert_eq!(told.code, Some(3), "{}{}", told.out, told.err);
    for reason in reasons {
        assert!(told.err.contains(reason), "`{reason}`: {}", told.err);
    }
    story.write("home/sites/clinic/policy.toml", "");
    let told = run(story, |_| {});
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
}

#[test]
fn a_machine_without_a_required_layer_is_refused() {
    let story = story("[sandbox]\nrequire = [\"seccomp\", \"landlock\"]");
    refused(&story, hide_landlock, &["landlock"]);
}

#[test]
fn a_layer_that_is_not_required_may_be_missing() {
    let story = story("[sandbox]\nrequire = [\"seccomp\"]");
    let told = run(&story, hide_landlock);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
}

#[test]
fn a_layer_that_nobody_knows_is_refused_with_the_known_ones() {
    let story = story("[sandbox]\nrequire = [\"firewall\"]");
    refused(&story, |_| {}, &["policy.toml", "firewall", "seccomp"]);
}

#[test]
fn a_malformed_policy_is_refused_with_its_place() {
    let story = story("[sandbox]\nprocess_per_unit = true\nrequires = [\"all\"]");
    refused(&story, |_| {}, &["policy.toml", "line 3", "requires"]);
}

/// Makes the kernel look to a process and its children as one without Landlock.
fn hide_landlock(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec it makes system calls only, with a program that
    // outlives them: seccomp(2), for any architecture `landlock_create_ruleset` is 444.
    unsafe {
        command.pre_exec(|| {
            let step = |code: u32, jump_false: u8, k: u32| libc::sock_filter {
                code: code as u16,
                jt: 0,
                jf: jump_false,
                k,
            };
            let no_such_call = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
            let mut filter = [
                step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
                step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 444),
                step(libc::BPF_RET | libc::BPF_K, 0, no_such_call),
                step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
            ];
            let program = libc::sock_fprog {
                len: filter.len() as u16,
                filter: filter.as_mut_ptr(),
            };
            let set = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ) == 0;
            if set {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}
