//! Short ways to write a signature; see the example in `catalog.rs`.

use serde_json::Value;

use crate::catalog::{
    Arity, OutputSpec, ParamKind, ParamSpec, Placement, PortSpec, PortType, StepSignature,
    TextCheck, Weight,
};
use crate::together::TogetherCheck;

impl StepSignature {
    /// A native step.
    pub fn host(uses: &str, help: &str) -> Self {
        Self::new(uses, Placement::Host, help)
    }

    /// A sandboxed step.
    pub fn guest(uses: &str, help: &str) -> Self {
        Self::new(uses, Placement::Guest, help)
    }

    fn new(uses: &str, placement: Placement, help: &str) -> Self {
        Self {
            uses: uses.to_owned(),
            placement,
            reads: Vec::new(),
            makes: Vec::new(),
            with: Vec::new(),
            together: None,
            weight: Weight::default(),
            help: help.to_owned(),
            manifest: None,
        }
    }

    /// Adds an input port.
    #[must_use]
    pub fn reads(mut self, port: PortSpec) -> Self {
        self.reads.push(port);
        self
    }

    /// Adds an output port.
    #[must_use]
    pub fn makes(mut self, name: &str, makes: PortType) -> Self {
        let name = name.to_owned();
        self.makes.push(OutputSpec { name, makes });
        self
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, param: ParamSpec) -> Self {
        self.with.push(param);
        self
    }

    /// Sets what the parameters must be beside each other and beside the inputs.
    #[must_use]
    pub fn together(mut self, check: TogetherCheck) -> Self {
        self.together = Some(check);
        self
    }

    /// Sets what it takes to run.
    #[must_use]
    pub fn weight(mut self, weight: Weight) -> Self {
        self.weight = weight;
        self
    }
}

impl PortSpec {
    /// A port that takes exactly one artifact.
    pub fn one(name: &str, accepts: PortType) -> Self {
        Self::new(name, accepts, Arity::One)
    }

    /// A port that may be left open.
    pub fn optional(name: &str, accepts: PortType) -> Self {
        Self::new(name, accepts, Arity::Optional)
    }

    /// A port that takes one or more artifacts.
    pub fn many(name: &str, accepts: PortType) -> Self {
        Self::new(name, accepts, Arity::Many)
    }

    fn new(name: &str, accepts: PortType, arity: Arity) -> Self {
        Self {
            name: name.to_owned(),
            accepts: vec![accepts],
            arity,
            accepts_private: false,
            labelled: false,
            help: String::new(),
        }
    }

    /// Accepts another type as well.
    #[must_use]
    pub fn or(mut self, accepts: PortType) -> Self {
        self.accepts.push(accepts);
        self
    }

    /// Lets private artifacts in; see [`PortSpec::accepts_private`].
    #[must_use]
    pub fn private(mut self) -> Self {
        self.accepts_private = true;
        self
    }

    /// Wants data sets that declare their labels.
    #[must_use]
    pub fn labelled(mut self) -> Self {
        self.labelled = true;
        self
    }

    /// Sets the line for people.
    #[must_use]
    pub fn help(mut self, help: &str) -> Self {
        self.help = help.to_owned();
        self
    }
}

impl ParamSpec {
    /// A whole number between two bounds, both included.
    pub fn int(name: &str, min: i64, max: i64) -> Self {
        Self::new(name, ParamKind::Int { min, max })
    }

    /// A number between two bounds, both included.
    pub fn float(name: &str, min: f64, max: f64) -> Self {
        Self::new(name, ParamKind::Float { min, max })
    }

    /// A switch.
    pub fn bool(name: &str) -> Self {
        Self::new(name, ParamKind::Bool)
    }

    /// A text.
    pub fn text(name: &str) -> Self {
        Self::new(name, ParamKind::Text)
    }

    /// One of several words.
    pub fn choice(name: &str, choices: &[&str]) -> Self {
        let choices = choices.iter().map(|&choice| choice.to_owned()).collect();
        Self::new(name, ParamKind::Choice(choices))
    }

    fn new(name: &str, kind: ParamKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            default: None,
            check: None,
            help: String::new(),
        }
    }

    /// Has `check` look at a given text before anything runs.
    #[must_use]
    pub fn checked(mut self, check: TextCheck) -> Self {
        self.check = Some(check);
        self
    }

    /// Sets the value taken when none is given.
    #[must_use]
    pub fn default(mut self, default: impl Into<Value>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// Lets the parameter be left out; it is then null in the plan.
    #[must_use]
    pub fn or_null(self) -> Self {
        self.default(Value::Null)
    }

    /// Sets the line for people.
    #[must_use]
    pub fn help(mut self, help: &str) -> Self {
        self.help = help.to_owned();
        self
    }
}
