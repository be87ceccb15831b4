//! How the program ends when it does not end well.

use std::fmt::Display;
use std::process::ExitCode;

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

    /// Says why on standard error and gives the exit code.
    pub fn report(self) -> ExitCode {
        let (code, text) = match self {
            Self::Failed(text) => (1, text),
            Self::Wrong(text) => (2, text),
            Self::Refused(text) => (3, text),
            Self::Interrupted(text) => (4, text),
            Self::Silent(code) => return ExitCode::from(code),
        };
        eprintln!("noisegate: {text}");
        ExitCode::from(code)
    }
}
