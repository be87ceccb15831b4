//! A step's parameters, as the plan has proven them.
//!
//! `check` has already compared every value with its declared type and range and
//! filled the defaults in, so a wrong type here is a defect of a signature, not
//! of a workflow; it is still an error and never a panic.

use noisegate_engine::StepFailure;
use serde_json::{Map, Value};

/// A view of a step's `with` table.
pub struct With<'a>(pub &'a Map<String, Value>);

impl With<'_> {
    /// A number.
    ///
    /// # Errors
    /// If it is not one.
    pub fn float(&self, name: &str) -> Result<f64, StepFailure> {
        self.0
            .get(name)
            .and_then(Value::as_f64)
            .ok_or_else(|| defect(name, "number"))
    }

    /// A number, or `otherwise` if none was given.
    ///
    /// # Errors
    /// If something else was given.
    pub fn float_or(&self, name: &str, otherwise: f64) -> Result<f64, StepFailure> {
        if self.0.get(name).is_none_or(Value::is_null) {
            Ok(otherwise)
        } else {
            self.float(name)
        }
    }

    /// A whole number, not negative.
    ///
    /// # Errors
    /// If it is not one.
    pub fn count(&self, name: &str) -> Result<usize, StepFailure> {
        let value = self.0.get(name).and_then(Value::as_u64);
        value
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| defect(name, "count"))
    }

    /// A whole number, not negative, or `otherwise` if none was given.
    ///
    /// # Errors
    /// If something else was given.
    pub fn count_or(&self, name: &str, otherwise: usize) -> Result<usize, StepFailure> {
        if self.0.get(name).is_none_or(Value::is_null) {
            Ok(otherwise)
        } else {
            self.count(name)
        }
    }

    /// Text, or `otherwise` if none was given.
    ///
    /// # Errors
    /// If something else was given.
    pub fn text_or<'a>(&'a self, name: &str, otherwise: &'a str) -> Result<&'a str, StepFailure> {
        if self.0.get(name).is_none_or(Value::is_null) {
            Ok(otherwise)
        } else {
            self.text(name)
        }
    }

    /// True or false.
    ///
    /// # Errors
    /// If it is neither.
    pub fn flag(&self, name: &str) -> Result<bool, StepFailure> {
        self.0
            .get(name)
            .and_then(Value::as_bool)
            .ok_or_else(|| defect(name, "flag"))
    }

    /// Text.
    ///
    /// # Errors
    /// If it is not text.
    pub fn text(&self, name: &str) -> Result<&str, StepFailure> {
        self.0
            .get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| defect(name, "text"))
    }
}

fn defect(name: &str, wanted: &str) -> StepFailure {
    StepFailure::Failed(format!(
        "parameter `{name}` is not a {wanted}; this is a defect of the step"
    ))
}
