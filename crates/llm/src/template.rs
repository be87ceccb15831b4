//! Fills `{{ variable }}`s into prompt templates, strictly.
//!
//! A variable that the template lacks, or a template variable that has no value, is an error: a
//! prompt through which the model never saw the samples must not be possible. Values are put in
//! once and not read again, so a text that holds `{{ x }}` stays as it is.

use crate::error::{Error, Result};

/// A template and its name for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Name for messages.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! template {
    ($name:literal) => {
        Template {
            name: $name,
            text: include_str!(concat!("../templates/", $name, ".txt")),
        }
    };
}

/// One demonstration for a base model: `label`, `text`.
pub const COMPLETION_DEMONSTRATION: Template = template!("completion-demonstration");
/// What a base model goes on from: `demonstrations`, `label`.
pub const COMPLETION_PROMPT: Template = template!("completion-prompt");
/// One demonstration for an instructed model: `label`, `text`.
pub const INSTRUCTION_DEMONSTRATION: Template = template!("instruction-demonstration");
/// What an instructed model is asked: `demonstrations`, `label`, `count`.
pub const INSTRUCTION_PROMPT: Template = template!("instruction-prompt");
/// One sample shown to the judge: `number`, `label`, `text`.
pub const JUDGE_SAMPLE: Template = template!("judge-sample");
/// What the judge is asked: `samples`, `labels`.
pub const JUDGE_PROMPT: Template = template!("judge-prompt");

impl Template {
    /// Puts every value in its place.
    ///
    /// One line break at the end of the file is not part of the template.
    ///
    /// # Errors
    /// [`Error::Template`] if a variable has no value, a value no variable, or a brace is open.
    pub fn render(&self, values: &[(&str, &str)]) -> Result<String> {
        let refuse = |problem: String| {
            Err(Error::Template {
                name: self.name,
                problem,
            })
        };
        let mut used = vec![false; values.len()];
        let mut out = String::new();
        let mut rest = self.text.strip_suffix('\n').unwrap_or(self.text);
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((variable, behind)) = after.split_once("}}") else {
                return refuse("a `{{` is never closed".to_owned());
            };
            let variable = variable.trim();
            let Some(index) = values.iter().position(|(name, _)| *name == variable) else {
                return refuse(format!("`{variable}` has no value"));
            };
            used[index] = true;
            out.push_str(before);
            out.push_str(values[index].1);
            rest = behind;
        }
        out.push_str(rest);
        match used.iter().position(|used| !used) {
            Some(index) => refuse(format!("it never uses `{}`", values[index].0)),
            None => Ok(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_of_every_template_is_rendered() {
        let cases: [(Template, &[&str]); 6] = [
            (COMPLETION_DEMONSTRATION, &["label", "text"]),
            (COMPLETION_PROMPT, &["demonstrations", "label"]),
            (INSTRUCTION_DEMONSTRATION, &["label", "text"]),
            (INSTRUCTION_PROMPT, &["demonstrations", "label", "count"]),
            (JUDGE_SAMPLE, &["number", "label", "text"]),
            (JUDGE_PROMPT, &["samples", "labels"]),
        ];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
        let files = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(files, cases.len(), "a template is in no case above");
        for (template, names) in cases {
            let markers: Vec<String> = names
                .iter()
                .map(|n| format!("<the {n} goes here>"))
                .collect();
            let values: Vec<_> = names
                .iter()
                .zip(&markers)
                .map(|(n, m)| (*n, m.as_str()))
                .collect();
            let out = template.render(&values).unwrap();
            for marker in &markers {
                assert!(out.contains(marker), "`{}` lost {marker}", template.name);
            }
            assert!(
                !out.contains("{{") && !out.contains("}}"),
                "{}",
                template.name
            );
        }
    }

    #[test]
    fn a_variable_without_value_and_a_value_without_variable_are_refused() {
        let template = Template {
            name: "t",
            text: "{{ a }} and {{ b }}",
        };
        let message = |values: &[(&str, &str)]| template.render(values).unwrap_err().to_string();
        assert!(message(&[("a", "1")]).contains("`b` has no value"));
        let all = [("a", "1"), ("b", "2"), ("c", "3")];
        assert!(message(&all).contains("never uses `c`"));
    }

    #[test]
    fn a_value_that_looks_like_a_variable_stays_as_it_is() {
        let template = Template {
            name: "t",
            text: "{{ a }}-{{ b }}",
        };
        assert_eq!(
            template.render(&[("a", "{{ b }}"), ("b", "2")]).unwrap(),
            "{{ b }}-2"
        );
    }
}
