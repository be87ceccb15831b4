//! What a kind of step says to its parameters beside each other and beside what the step reads.
//!
//! ```text
//! [steps.judge] reads train.model ──> ReadArtifact ──> Origin::Step: what [steps.train] was given
//!               reads data.test   ──> ReadArtifact ──> Origin::Data: its labels
//! ```
//! Deliberately absent: rows and files. Nothing here depends on what a run would find.

use serde_json::{Map, Value};

use crate::catalog::PortType;

/// Whether parameters that are each fine can be used together, and with what the step reads.
pub type TogetherCheck = fn(&Together<'_>) -> Result<(), Clash>;

/// What a [`TogetherCheck`] looks at.
#[derive(Debug)]
pub struct Together<'a> {
    /// All parameters of the step, defaults filled in.
    pub with: &'a Map<String, Value>,
    /// What the ports read, in the order of the ports.
    pub reads: &'a [ReadArtifact<'a>],
}

/// One artifact that a port reads.
#[derive(Debug, Clone)]
pub struct ReadArtifact<'a> {
    /// The port.
    pub port: &'a str,
    /// What it holds.
    pub holds: PortType,
    /// As a workflow writes it, such as `data.notes` or `augment.samples`.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin<'a>,
}

/// Where an artifact comes from, as far as the workflow says.
#[derive(Debug, Clone)]
pub enum Origin<'a> {
    /// A plugin, or a step of which no more is said here.
    Unknown,
    /// A data set.
    Data {
        /// The declared labels; `None` if they stand in a file, or there are none.
        labels: Option<&'a [String]>,
        /// Whether its rows are secret.
        private: bool,
    },
    /// A step of the same workflow. The origin of what it reads is a data set or unknown.
    Step {
        /// The kind of step.
        uses: &'a str,
        /// All its parameters, defaults filled in.
        with: &'a Map<String, Value>,
        /// What it reads.
        reads: Vec<ReadArtifact<'a>>,
    },
}

impl Together<'_> {
    /// Whether the port reads something that is `holds`.
    pub fn reads(&self, port: &str, holds: PortType) -> bool {
        self.of(port).any(|source| source.holds == holds)
    }

    /// What the port reads.
    pub fn of<'s>(&'s self, port: &'s str) -> impl Iterator<Item = &'s ReadArtifact<'s>> {
        self.reads.iter().filter(move |source| source.port == port)
    }

    /// A whole number; zero if it is none, or null.
    pub fn count(&self, param: &str) -> i64 {
        self.with.get(param).and_then(Value::as_i64).unwrap_or(0)
    }

    /// A number; zero if it is none, or null.
    pub fn number(&self, param: &str) -> f64 {
        self.with.get(param).and_then(Value::as_f64).unwrap_or(0.0)
    }

    /// A text; empty if it is none, or null.
    pub fn text(&self, param: &str) -> &str {
        self.with.get(param).and_then(Value::as_str).unwrap_or("")
    }
}

/// A parameter that does not go with the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The parameter to change.
    pub param: &'static str,
    /// What is wrong with it here, and what would be right.
    pub why: String,
}
