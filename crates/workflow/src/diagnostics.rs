//! Everything that is wrong with a workflow, in one list.
//!
//! ```text
//! read, check ──error()──> Report ──finish()──> Diagnostics ──render()──> text
//! ```
//!
//! The crate only makes text; colours and source excerpts are the command line's affair, which
//! finds the span and the source text here.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::error::Problem;
use crate::source::{Location, Place, Source};

/// Whether a workflow may run in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The workflow is refused.
    Error,
    /// The workflow may run, but is probably not what was meant.
    Warning,
}

/// One thing that is wrong, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// Refused, or only doubtful.
    pub severity: Severity,
    /// What is wrong; gives the code, the message and the remedy.
    pub problem: Problem,
    /// Where.
    pub place: Location,
    /// Other places that have a part in it.
    pub related: Vec<Related>,
}

/// A second place that explains the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// What stands there.
    pub message: String,
    /// Where.
    pub place: Location,
}

impl Diagnostic {
    /// A stable kebab-case name, such as `private-data-leaves-site`.
    pub fn code(&self) -> &'static str {
        self.problem.code()
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> String {
        self.problem.to_string()
    }

    /// What to do about it, in one line.
    pub fn remedy(&self) -> String {
        self.problem.remedy()
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Diagnostic", 6)?;
        out.serialize_field("severity", &self.severity)?;
        out.serialize_field("code", self.code())?;
        out.serialize_field("message", &self.message())?;
        out.serialize_field("remedy", &self.remedy())?;
        out.serialize_field("place", &self.place)?;
        out.serialize_field("related", &self.related)?;
        out.end()
    }
}

/// All errors, or all warnings, of one workflow, in the order of the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Diagnostics {
    /// The texts the places point into: the workflow file first, then each `--set`.
    #[serde(skip)]
    pub sources: Vec<Source>,
    /// In the order of the file, overrides last.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// True if the file is sound and only privacy rules stand in the way.
    ///
    /// The command line tells "mend the file" from "this may not be done" by it.
    pub fn is_policy(&self) -> bool {
        let mut errors = self
            .list
            .iter()
            .filter(|one| one.severity == Severity::Error)
            .peekable();
        errors.peek().is_some() && errors.all(|one| one.problem.is_policy())
    }

    /// Plain text: `file:line:column: error[code]: message`, then the remedy and related places.
    pub fn render(&self) -> String {
        self.list.iter().map(|one| self.render_one(one)).collect()
    }

    fn render_one(&self, one: &Diagnostic) -> String {
        let severity = match one.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut text = format!(
            "{}: {severity}[{}]: {}\n",
            self.place(&one.place),
            one.code(),
            one.message()
        );
        for line in one.remedy().lines() {
            text += &format!("  remedy: {line}\n");
        }
        for related in &one.related {
            text += &format!(
                "  see {}: {}\n",
                self.place(&related.place),
                related.message
            );
        }
        text
    }

    /// An override is short enough to be shown whole.
    fn place(&self, place: &Location) -> String {
        if place.source == 0 {
            return format!("{}:{}:{}", place.file, place.line, place.column);
        }
        let written = self
            .sources
            .get(place.source)
            .map_or("", |source| &source.text);
        format!("{} {written}", place.file)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.render())
    }
}

impl std::error::Error for Diagnostics {}

/// Collects problems while reading and checking goes on.
#[derive(Debug, Default)]
pub(crate) struct Report {
    list: Vec<Finding>,
}

#[derive(Debug)]
struct Finding {
    severity: Severity,
    place: Place,
    problem: Problem,
    see: See,
}

/// Other places that have a part in a problem, and what stands there.
pub(crate) type See = Vec<(String, Place)>;

impl Report {
    pub(crate) fn error(&mut self, place: Place, problem: Problem) {
        self.error_with(place, problem, See::new());
    }

    /// An error whose cause lies partly elsewhere.
    pub(crate) fn error_with(&mut self, place: Place, problem: Problem, see: See) {
        let severity = Severity::Error;
        self.list.push(Finding {
            severity,
            place,
            problem,
            see,
        });
    }

    pub(crate) fn warning(&mut self, place: Place, problem: Problem, see: See) {
        let severity = Severity::Warning;
        self.list.push(Finding {
            severity,
            place,
            problem,
            see,
        });
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// Puts the list into the order of the file and makes places readable.
    pub(crate) fn finish(mut self, sources: &[Source]) -> Diagnostics {
        self.list
            .sort_by_key(|one| (one.place.source, one.place.start));
        let related = |(message, place): (String, Place)| Related {
            message,
            place: place.locate(sources),
        };
        let list = self.list.into_iter().map(|one| Diagnostic {
            severity: one.severity,
            problem: one.problem,
            place: one.place.locate(sources),
            related: one.see.into_iter().map(related).collect(),
        });
        Diagnostics {
            list: list.collect(),
            sources: sources.to_vec(),
        }
    }
}
