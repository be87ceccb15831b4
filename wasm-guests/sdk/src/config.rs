//! What `start` is told, and the rows of a public input.
//!
//! The host has filled every default in and checked every range by then, as the
//! step's `plugin.toml` declares them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::File;

/// The configuration; `W` is the step's own parameters.
#[derive(Debug, Clone, Deserialize)]
pub struct Config<W> {
    /// The step's own parameters.
    pub with: W,
    /// The public labels, in their fixed order.
    pub labels: Vec<String>,
    /// What the gate will do.
    pub mechanism: Mechanism,
    /// Seed of the public randomness.
    #[serde(default)]
    pub seed: u64,
}

/// The gate's public facts.
#[derive(Debug, Clone, Deserialize)]
pub struct Mechanism {
    /// Standard deviation of the noise over `clip`.
    pub noise_multiplier: f64,
    /// L2 norm of the largest contribution: for votes, the square root of their number.
    pub clip: f64,
    /// Number of queries charged for.
    pub steps: u32,
    /// Public expected number of units in a query: what sums are divided by.
    pub expected_batch: f64,
    /// Votes that a unit may give, under the mechanism `votes`.
    #[serde(default)]
    pub votes_per_unit: Option<u32>,
}

impl Mechanism {
    /// Standard deviation of the noise in each released number.
    pub fn noise(&self) -> f64 {
        self.noise_multiplier * self.clip / self.expected_batch
    }
}

/// Reads the configuration.
///
/// # Errors
/// A sentence, if the JSON is not what the step's manifest promises.
pub fn read<W: DeserializeOwned>(json: &str) -> Result<Config<W>, String> {
    serde_json::from_str(json).map_err(|error| {
        format!("the configuration does not fit this step: {error}; compare `with` and `[mechanism]` in its plugin.toml")
    })
}

/// A labelled text of a public input, or of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The text.
    pub text: String,
    /// Its label.
    #[serde(default)]
    pub label: String,
    /// The group that `llm:cluster` put it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<usize>,
}

/// All rows of a port's files, in order.
///
/// # Errors
/// A sentence naming file and line.
pub fn rows(inputs: &[File], port: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for file in inputs
        .iter()
        .filter(|file| file.name.split('/').next() == Some(port))
    {
        let text =
            std::str::from_utf8(&file.data).map_err(|_| format!("`{}` is not UTF-8", file.name))?;
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let row = serde_json::from_str(line).map_err(|error| {
                format!(
                    "`{}`, line {}: {error}; a line is {{\"text\": …, \"label\": …}}",
                    file.name,
                    number + 1
                )
            })?;
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return Err(format!(
            "port `{port}` has no rows; connect an artifact that has some"
        ));
    }
    Ok(rows)
}

/// Rows as a file of JSON Lines.
pub fn to_file<'a>(name: &str, rows: impl IntoIterator<Item = &'a Row>) -> File {
    let mut data = Vec::new();
    for row in rows {
        data.extend(serde_json::to_vec(row).expect("text and numbers are always JSON"));
        data.push(b'\n');
    }
    File {
        name: name.to_owned(),
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_writing_and_reading() {
        let row = |text: &str, cluster| Row {
            text: text.into(),
            label: "a".into(),
            cluster,
        };
        let written = vec![row("one \"quoted\"\nline", None), row("two", Some(3))];
        let mut file = to_file("samples/x.jsonl", &written);
        assert_eq!(
            rows(std::slice::from_ref(&file), "samples").unwrap(),
            written
        );
        assert!(
            rows(std::slice::from_ref(&file), "sam")
                .unwrap_err()
                .contains("no rows")
        );
        file.data.extend(b"not json\n");
        assert!(rows(&[file], "samples").unwrap_err().contains("line 3"));
    }

    #[test]
    fn the_noise_of_a_released_number_is_known() {
        let json = r#"{"with": {}, "labels": [], "mechanism":
            {"noise_multiplier": 2.0, "clip": 3.0, "steps": 1, "expected_batch": 60.0}}"#;
        let config: Config<serde_json::Value> = read(json).unwrap();
        assert!((config.mechanism.noise() - 0.1).abs() < 1e-12);
    }
}
