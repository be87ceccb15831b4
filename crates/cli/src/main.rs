//! `noisegate`: the command line.
//!
//! The only place that reads arguments and environment variables, prints, and
//! chooses exit codes. [`run`] shows all commands at a glance; each lives in a
//! file of its own below [`commands`].
//!
//! Exit codes: 0 done, 1 a step failed, 2 the workflow or the arguments are wrong,
//! 3 the budget or a policy refused, 4 interrupted.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod exit;
mod progress;
mod project;
mod show;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use exit::{CLOSED_PIPE, Exit};

fn main() -> ExitCode {
    // Guests run in this program, started again; that is decided before all else.
    noisegate_sandbox::serve_workers();
    std::panic::set_hook(Box::new(say_defect));
    match run(Arguments::parse()).and_then(|()| flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}

/// A panic is a defect. Its text may quote what it was working on, which may be
/// private, so only its place is said. Output that cannot be written is no defect.
fn say_defect(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or_default();
    if let Some(why) = text.strip_prefix("failed printing to ") {
        if why.ends_with(EPIPE) {
            std::process::exit(CLOSED_PIPE.into());
        }
        std::process::exit(Exit::not_whole(why).report_code().into());
    }
    let place = panic
        .location()
        .map_or_else(String::new, |place| format!(" at {place}"));
    let _ = writeln!(
        std::io::stderr(),
        "noisegate: a defect{place}; please report it"
    );
}

/// How the standard library ends the text of this error.
const EPIPE: &str = "(os error 32)";

/// Writes what the standard output still holds back.
fn flush() -> Result<(), Exit> {
    std::io::stdout().flush().map_err(Exit::unwritten)
}

fn run(arguments: Arguments) -> Result<(), Exit> {
    let place = &arguments.place;
    match arguments.command {
        Command::Check(which) => commands::check::check(place, &which),
        Command::Plan(which) => commands::check::plan(place, &which),
        Command::Graph(which) => commands::check::graph(place, &which),
        Command::Run(which) => commands::run::run(place, &which),
        Command::Runs(options) => commands::runs::list(place, options.json),
        Command::Show(which) => commands::runs::show(place, &which),
        Command::Audit(which) => commands::audit::audit(place, &which),
        Command::Report(which) => commands::report::report(place, &which),
        Command::Ledger(what) => commands::ledger::ledger(place, &what),
        Command::Guest(what) => commands::guest::guest(&what),
        Command::Privacy(what) => commands::privacy::privacy(&what),
        Command::Slm(what) => commands::slm::slm(place, &what),
        Command::Steps(which) => commands::steps::steps(place, &which),
        Command::Doctor(options) => commands::doctor::doctor(place, options.json),
    }
}
