//! Names of the things a workflow declares, each with its own type.
//!
//! A name is a short word: `a-z` first, then `a-z`, `0-9`, `-` or `_`, at most 64 of them. Names
//! become folder names, port names and messages, so nothing wider is let in.
//!
//! These types hold no meaning beyond "well formed": whether a step of that name exists is for
//! `check` to say.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name accepted, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name: names are `a-z`, then `a-z`, `0-9`, `-` or `_`, at most {NAME_BYTES_MAX} of them"
)]
pub struct NameError(pub String);

fn is_name(text: &str) -> bool {
    let starts_well = text.starts_with(|first: char| first.is_ascii_lowercase());
    let goes_on_well = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    starts_well && goes_on_well && text.len() <= NAME_BYTES_MAX
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                if is_name(&text) { Ok(Self(text)) } else { Err(NameError(text)) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// The name of a whole workflow.
    WorkflowName;
    /// A place that owns data or computes: a hospital, a bank, a server.
    SiteName;
    /// A declared data set.
    DataName;
    /// One node of the graph.
    StepName;
    /// An input or output of a step.
    PortName;
    /// A packaged model or guest under `plugins/`.
    PluginName;
    /// Something a workflow writes out for others.
    ExportName;
    /// A parameter, of the workflow or of a step.
    ParamName;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_short_lowercase_word() {
        for good in ["a", "train", "dp-generator", "tiny_lm2"] {
            assert!(good.parse::<StepName>().is_ok(), "{good}");
        }
        for bad in ["", "2nd", "Train", "a.b", "a b", "-a", "é", &"a".repeat(65)] {
            assert!(bad.parse::<StepName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_read_back_from_json_is_checked_again() {
        assert!(serde_json::from_str::<SiteName>("\"clinic\"").is_ok());
        assert!(serde_json::from_str::<SiteName>("\"../clinic\"").is_err());
    }
}
