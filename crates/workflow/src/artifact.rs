//! How a workflow refers to an artifact: `data.notes`, `train.model`, `plugin:tiny-lm`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{DataName, PluginName, PortName, StepName};

/// One artifact of a workflow, by the name its users write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ArtifactId {
    /// `data.NAME`: a declared data set.
    Data(DataName),
    /// `STEP.PORT`: what a step makes.
    Output {
        /// The step that makes it.
        step: StepName,
        /// The output port.
        port: PortName,
    },
    /// `plugin:NAME`: a packaged model.
    Plugin(PluginName),
}

/// The text refers to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no reference; write `data.NAME`, `STEP.PORT` or `plugin:NAME`")]
pub struct ReferenceError(pub String);

/// The word before the dot that means a data set; no step may have this name.
pub(crate) const DATA: &str = "data";

impl FromStr for ArtifactId {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |_| ReferenceError(text.to_owned());
        if let Some(name) = text.strip_prefix("plugin:") {
            return name.parse().map(Self::Plugin).map_err(wrong);
        }
        match text.split_once('.') {
            Some((DATA, name)) => name.parse().map(Self::Data).map_err(wrong),
            Some((step, port)) => Ok(Self::Output {
                step: step.parse().map_err(wrong)?,
                port: port.parse().map_err(wrong)?,
            }),
            None => Err(ReferenceError(text.to_owned())),
        }
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(name) => write!(out, "{DATA}.{name}"),
            Self::Output { step, port } => write!(out, "{step}.{port}"),
            Self::Plugin(name) => write!(out, "plugin:{name}"),
        }
    }
}

impl TryFrom<String> for ArtifactId {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ArtifactId> for String {
    fn from(id: ArtifactId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_written_as_it_is_read() {
        for text in ["data.notes", "train.model", "plugin:tiny-lm"] {
            let id: ArtifactId = text.parse().expect("well formed");
            assert_eq!(id.to_string(), text);
        }
        for text in [
            "",
            "notes",
            "data.",
            "a.b.c",
            "plugin:",
            "plugin:a.b",
            "Train.model",
        ] {
            assert!(text.parse::<ArtifactId>().is_err(), "{text}");
        }
    }
}
