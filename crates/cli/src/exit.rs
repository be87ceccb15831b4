//! How the program ends when it does not end well.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use crate::show::plain;

/// The code of a program whose reader has closed the pipe, as a shell gives it.
pub const CLOSED_PIPE: u8 = 141;

/// An ending with its exit code and what to tell the person.
#[derive(Debug)]
pub enum Exit {
    /// 1: a step, or a command's own work, failed.
    Failed(String),
    /// 2: the workflow, the arguments or the input are wrong.
    Wrong(String),
    /// 3: the budget or a policy refused.
    Refused(String),
    /// 4: interrupted; what was done is kept.
    Interrupted(String),
    /// As the codes above, with everything said already.
    Silent(u8),
}

impl Exit {
    /// An error of the command's own work.
    pub fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// Wrong input.
    pub fn wrong(error: impl Display) -> Self {
        Self::Wrong(error.to_string())
    }

    /// Standard output could not be written; a reader who has closed the pipe is told nothing.
    pub fn unwritten(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Silent(CLOSED_PIPE),
            _ => Self::not_whole(&format!("stdout: {error}")),
        }
    }

    /// What was printed is not whole; `place` names where, and why.
    pub fn not_whole(place: &str) -> Self {
        Self::Failed(format!(
            "could not write to {place}; what was printed there is not whole: make room for it, or send it elsewhere"
        ))
    }

    /// Says why on standard error and gives the exit code.
    pub fn report(self) -> ExitCode {
        self.report_code().into()
    }

    /// As [`Exit::report`], as a number.
    pub fn report_code(self) -> u8 {
        let (code, text) = match self {
            Self::Failed(text) => (1, text),
            Self::Wrong(text) => (2, text),
            Self::Refused(text) => (3, text),
            Self::Interrupted(text) => (4, text),
            Self::Silent(code) => return code,
        };
        // The code tells how it ended, even where nobody can be told why.
        let _ = writeln!(std::io::stderr(), "noisegate: {}", plain(&text));
        code
    }
}
