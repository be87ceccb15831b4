//! Records as steps pass them on: JSON Lines of `{"text", "label"}`, with the
//! cluster number beside it after `llm:cluster`.

use std::path::Path;

use noisegate_engine::{Input, StepFailure};
use noisegate_workflow::PortType;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::resolve::read_data;

/// One labelled text that has left the gate, or was public from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The text.
    pub text: String,
    /// Its label.
    pub label: String,
    /// The cluster it was put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<usize>,
}

/// Reads the samples of an input: an artifact, or a data set.
///
/// # Errors
/// [`StepFailure::BadInput`] with file and line; the row itself is never quoted.
pub fn read(input: &Input) -> Result<Vec<Sample>, StepFailure> {
    let Input::Path { path, .. } = input else {
        let rows = read_data(input)?;
        return Ok(rows
            .into_iter()
            .map(|row| Sample {
                text: row.text,
                label: row.label,
                cluster: None,
            })
            .collect());
    };
    read_lines(path)
}

/// Reads the samples of an artifact as `T`, a [`Sample`] with more beside it.
///
/// # Errors
/// As [`read`].
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StepFailure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        StepFailure::Failed(format!("could not read `{}`: {error}", path.display()))
    })?;
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|_| {
            StepFailure::BadInput(format!(
                "`{}`, line {}: not a sample; a line is {{\"text\": …, \"label\": …}}",
                path.display(),
                number + 1
            ))
        })
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(parse)
        .collect()
}

/// Why what a guest made cannot be read as what its manifest calls it. Quotes nothing and counts
/// nothing.
pub(crate) fn unfit(holds: PortType, data: &[u8], labels: &[String]) -> Option<&'static str> {
    if !matches!(holds, PortType::Records) {
        return None;
    }
    let text = std::str::from_utf8(data).unwrap_or("not text");
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str::<Sample>(line) {
            Err(_) => return Some("it is not JSON Lines of `text` and `label`"),
            Ok(sample) if !labels.is_empty() && !labels.contains(&sample.label) => {
                return Some("it has a label that the data set does not declare");
            }
            Ok(_) => {}
        }
    }
    None
}

/// Samples as text, one a line.
///
/// # Errors
/// [`StepFailure::Failed`] if one cannot be written as JSON.
pub fn to_json_lines(samples: &[impl Serialize]) -> Result<String, StepFailure> {
    let mut text = String::new();
    for sample in samples {
        let line = serde_json::to_string(sample).map_err(|error| {
            StepFailure::Failed(format!("could not write a sample as JSON: {error}"))
        })?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

/// Writes samples to `path`.
///
/// # Errors
/// [`StepFailure::Failed`], for instance on a full disk.
pub fn write(path: &Path, samples: &[impl Serialize]) -> Result<(), StepFailure> {
    std::fs::write(path, to_json_lines(samples)?).map_err(|error| {
        StepFailure::Failed(format!("could not write `{}`: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_made_is_told_from_records() {
        let labels = ["a".to_owned()];
        let unfit = |data: &[u8]| unfit(PortType::Records, data, &labels);
        assert_eq!(unfit(b"{\"text\": \"x\", \"label\": \"a\"}\n\n"), None);
        assert_eq!(unfit(b""), None);
        for bad in [&b"\xff"[..], b"{\"text\": \"x\"}", b"3"] {
            assert!(unfit(bad).unwrap().contains("not JSON Lines"));
        }
        let undeclared = b"{\"text\": \"x\", \"label\": \"A\"}";
        assert!(unfit(undeclared).unwrap().contains("does not declare"));
    }
}
