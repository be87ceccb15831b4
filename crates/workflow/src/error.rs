//! Every way in which a workflow can be wrong.
//!
//! One variant is one refusal: the attribute above it is the message, [`Problem::code`] its stable
//! name and [`Problem::remedy`] (in `remedy.rs`) the way out. `tests/refusals` holds at least one
//! small workflow for each. Places are kept beside a problem, not in it.

use std::fmt;

use noisegate_privacy::{Delta, Epsilon};

use crate::artifact::ArtifactId;
use crate::catalog::PortType;
use crate::name::{DataName, SiteName, StepName};
use crate::near::{Choices, quoted};

/// What a name was looked up as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what it is called")]
pub enum Thing {
    Site,
    DataSet,
    Step,
    StepKind,
    Plugin,
    Param,
    Export,
}

impl fmt::Display for Thing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Thing::Site => "site",
            Thing::DataSet => "data set",
            Thing::Step => "step",
            Thing::StepKind => "step kind",
            Thing::Plugin => "plugin",
            Thing::Param => "parameter",
            Thing::Export => "export",
        })
    }
}

/// What private data a guest step needs told about a data set before it may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is a key of `[data.NAME]`")]
pub enum Setting {
    Unit,
    UnitsPublic,
    Budget,
}

impl fmt::Display for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Setting::Unit => "unit",
            Setting::UnitsPublic => "units_public",
            Setting::Budget => "budget",
        })
    }
}

/// One thing that is wrong with a workflow.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the fields are what the message above them says"
)]
pub enum Problem {
    // The text.
    #[error("this is not TOML: {detail}")]
    Syntax { detail: String },
    #[error("`{name}` is written twice")]
    DuplicateName { name: String },
    #[error("`{digits}` is no number that can be used here")]
    NotANumber { digits: String },
    #[error("{section} has no key `{key}`")]
    UnknownKey {
        section: String,
        key: String,
        choices: Choices,
    },
    #[error("{section} has no `{key}`")]
    MissingKey {
        section: String,
        key: &'static str,
        why: &'static str,
    },
    #[error("`{key}` has no meaning for the type of `{section}`")]
    MisplacedKey { section: String, key: &'static str },
    #[error("`{path}` must be {wanted}, found {found}")]
    WrongType {
        path: String,
        wanted: String,
        found: String,
    },
    #[error("`{path}` must be {range}, found `{found}`")]
    OutOfRange {
        path: String,
        found: String,
        range: String,
    },
    #[error("`{path}` cannot be `{found}`")]
    UnknownChoice {
        path: String,
        found: String,
        choices: Choices,
    },
    #[error("`{path}` cannot be used: {why}")]
    UnusableText { path: String, why: String },
    #[error("`{path}` does not go with the rest of the step: {why}")]
    Clash { path: String, why: String },
    #[error("`{path}` is empty")]
    Empty { path: String },
    #[error("one of the entries of `{path}` is empty")]
    EmptyEntry { path: String },
    #[error("`{path}` holds `{value}` more than once")]
    Repeated { path: String, value: String },
    #[error("`{name}` is not a name")]
    BadName { name: String },
    #[error("a step may not be called `{name}`")]
    ReservedName { name: &'static str },
    #[error("`{text}` is no reference to an artifact")]
    BadReference { text: String },
    #[error("`{text}` holds a placeholder that is no parameter")]
    BadPlaceholder { text: String },
    #[error("the parameter `{name}` has no value")]
    ParamWithoutValue { name: String },
    #[error("`{key}` cannot be set from outside")]
    Unsettable { key: String },
    #[error("`{key}` is taken from a parameter")]
    NotWrittenOut { key: String },
    #[error("an export is not written in the format that `{path}` is named after")]
    ExportFormat { path: String },

    // The graph.
    #[error("the workflow has no steps")]
    EmptyWorkflow,
    #[error("there is no {thing} `{name}`")]
    Unknown {
        thing: Thing,
        name: String,
        choices: Choices,
    },
    #[error("step `{step}` makes no `{port}`")]
    UnknownOutput {
        step: StepName,
        port: String,
        choices: Choices,
    },
    #[error("step `{step}`, a `{uses}`, has no input `{port}`")]
    UnknownPort {
        step: StepName,
        uses: String,
        port: String,
        choices: Choices,
    },
    #[error("step `{step}`, a `{uses}`, needs its input `{port}`")]
    MissingPort {
        step: StepName,
        uses: String,
        port: String,
        wanted: Wanted,
    },
    #[error("input `{port}` of step `{step}` takes one artifact, found {given}")]
    TooManyInputs {
        step: StepName,
        port: String,
        given: usize,
    },
    #[error("input `{port}` of step `{step}` names no artifact")]
    NoInputs { step: StepName, port: String },
    #[error("input `{port}` of step `{step}` reads `{artifact}` twice")]
    SameInputTwice {
        step: StepName,
        port: String,
        artifact: ArtifactId,
    },
    #[error(
        "input `{port}` of step `{step}` takes `{}`, but `{artifact}` holds `{holds}`",
        wanted.types()
    )]
    WrongPortType {
        step: StepName,
        port: String,
        artifact: ArtifactId,
        holds: PortType,
        wanted: Box<Wanted>,
    },
    #[error("step `{step}` reads its own output")]
    ReadsItself { step: StepName },
    #[error("steps wait for each other: {}", cycle.iter().map(StepName::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle { cycle: Vec<StepName> },
    #[error("step `{step}`, a `{uses}`, has no parameter `{param}`")]
    UnknownParam {
        step: StepName,
        uses: String,
        param: String,
        choices: Choices,
    },
    #[error("step `{step}`, a `{uses}`, needs the parameter `{param}`")]
    MissingParam {
        step: StepName,
        uses: String,
        param: String,
        help: String,
    },
    #[error("input `{port}` of step `{step}` needs labels, but `[data.{data}]` declares none")]
    MissingLabels {
        step: StepName,
        port: String,
        data: DataName,
    },
    #[error(
        "export `{export}` to `{path}` leads out of the workflow file's folder, to a hidden place, or among plugins"
    )]
    ExportOutside { export: String, path: String },
    #[error("`{path}` is written by two exports")]
    SameExportPath { path: String },
    #[error("an export can only write what a step made, not `{artifact}`")]
    ExportsNoOutput { artifact: ArtifactId },

    // The promise.
    #[error(
        "step `{step}` on site `{site}` reads `{artifact}`, which is private to {}",
        quoted(owners)
    )]
    PrivateDataLeavesSite {
        step: StepName,
        site: SiteName,
        artifact: ArtifactId,
        owners: Vec<SiteName>,
    },
    #[error(
        "guest step `{step}` on site `{site}` reads `data.{data}`, whose rows are on site `{owner}`"
    )]
    GuestOnAnotherSite {
        step: StepName,
        site: SiteName,
        data: DataName,
        owner: SiteName,
    },
    #[error(
        "export `{export}` would carry `{artifact}` out, which is private to {}",
        quoted(owners)
    )]
    PrivateDataExported {
        export: String,
        artifact: ArtifactId,
        owners: Vec<SiteName>,
    },
    #[error(
        "step `{step}`, a `{uses}`, must not see private data, but its input `{port}` reads `{artifact}`"
    )]
    PrivateDataUnreleased {
        step: StepName,
        uses: String,
        port: String,
        artifact: ArtifactId,
    },
    #[error(
        "input `{port}` of guest step `{step}` is on its public side, but `{artifact}` is private"
    )]
    PrivateDataOnPublicSide {
        step: StepName,
        port: String,
        artifact: ArtifactId,
        private_ports: Vec<String>,
    },
    #[error(
        "guest step `{step}` reads `{artifact}`, which was computed from private data and has no privacy units"
    )]
    DerivedDataInGuest {
        step: StepName,
        artifact: ArtifactId,
    },
    #[error("guest step `{step}` reads `data.{data}`, but `[data.{data}]` has no `{setting}`")]
    MissingSetting {
        step: StepName,
        data: DataName,
        setting: Setting,
    },
    #[error("guest step `{step}` reads the private `data.{data}` but states no `privacy`")]
    MissingPrivacy { step: StepName, data: DataName },
    #[error("step `{step}` states `privacy` but reads no private data through a gate")]
    UselessPrivacy { step: StepName },
    #[error("step `{step}` is a guest and reads nothing private")]
    NothingPrivate { step: StepName },
    #[error("`{path}` is {delta:e}, but must be less than 1 / `units_public` = 1 / {units}")]
    DeltaTooLarge {
        path: String,
        delta: f64,
        units: u64,
    },
    #[error("step `{step}` would spend {spent} on `data.{data}`, more than its budget of {budget}")]
    BudgetExceeded {
        step: StepName,
        data: DataName,
        spent: Spent,
        budget: Spent,
    },
    #[error(
        "steps {} together would spend {spent} on `data.{data}`, more than its budget of {budget}",
        quoted(steps)
    )]
    BudgetExceededTogether {
        steps: Vec<StepName>,
        data: DataName,
        spent: Spent,
        budget: Spent,
    },

    #[error(
        "step `{step}` would send what it reads to `{address}`, which `[sites.{site}]` does not allow"
    )]
    AddressNotAllowed {
        step: StepName,
        site: SiteName,
        address: String,
    },
    #[error(
        "step `{step}` would send `{artifact}` to `{address}`, but it is private to {}",
        quoted(owners)
    )]
    PrivateDataSent {
        step: StepName,
        artifact: ArtifactId,
        owners: Vec<SiteName>,
        address: String,
    },
    #[error("`data.{public}` declares `{path}` public, but `data.{private}` declares it private")]
    PrivateFilePublicToo {
        private: DataName,
        public: DataName,
        path: String,
    },
    #[error(
        "`data.{first}` and `data.{second}` are both `{path}`, but each would be charged on its own"
    )]
    BudgetCountedTwice {
        first: DataName,
        second: DataName,
        path: String,
    },

    // The caller.
    #[error("the step kind `{uses}` cannot be used: {detail}")]
    BadSignature {
        uses: String,
        detail: String,
        manifest: Option<String>,
    },

    // Doubts.
    #[error("step `{step}` judges `{model}` by `data.{data}`, which it was trained on")]
    JudgedOnTrainingData {
        step: StepName,
        model: ArtifactId,
        data: DataName,
    },
    #[error("nothing reads `data.{data}`")]
    UnusedData { data: DataName },
}

/// What a port takes, and what in the workflow would fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Any one of these.
    pub accepts: Vec<PortType>,
    /// References to artifacts that hold one.
    pub candidates: Vec<String>,
}

impl Wanted {
    pub(crate) fn types(&self) -> String {
        let names: Vec<String> = self.accepts.iter().map(PortType::to_string).collect();
        names.join("` or `")
    }
}

/// An epsilon and a delta, for messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// Sum of the epsilons.
    pub epsilon: f64,
    /// Sum of the deltas.
    pub delta: f64,
}

impl fmt::Display for Spent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "epsilon {}, delta {:e}", self.epsilon, self.delta)
    }
}

impl Spent {
    pub(crate) fn of(epsilon: Epsilon, delta: Delta) -> Self {
        Self {
            epsilon: epsilon.get(),
            delta: delta.get(),
        }
    }
}
