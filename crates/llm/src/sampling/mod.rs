//! How tokens are drawn: the options. `draw.rs` draws.

mod draw;

pub(crate) use self::draw::Sampler;
use crate::error::{Error, Result};

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f64,
    /// Only this many most likely tokens may be drawn.
    #[serde(default)]
    pub top_k: Option<usize>,
    /// Only the most likely tokens that together reach this probability may be drawn.
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Only tokens at least this likely, relative to the most likely one, may be drawn.
    #[serde(default)]
    pub min_p: Option<f64>,
    /// Divides the positive and multiplies the negative logits of tokens that the text already
    /// holds (Keskar et al., "CTRL", 2019, section 4.1); 1 changes nothing.
    #[serde(default)]
    pub repetition_penalty: Option<f64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: None,
            top_p: Some(0.95),
            min_p: None,
            repetition_penalty: None,
        }
    }
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: None,
        }
    }

    /// Refuses values that mean nothing.
    ///
    /// # Errors
    /// [`Error::Option`] naming the value.
    pub fn validate(&self) -> Result<()> {
        let refuse = |option, value: String, remedy| {
            Err(Error::Option {
                option,
                value,
                remedy,
            })
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return refuse(
                "temperature",
                self.temperature.to_string(),
                "it must be 0 or more",
            );
        }
        if self.top_k == Some(0) {
            return refuse("top_k", "0".to_owned(), "it must be at least 1, or absent");
        }
        if let Some(top_p) = self.top_p
            && !(top_p > 0.0 && top_p <= 1.0)
        {
            return refuse(
                "top_p",
                top_p.to_string(),
                "it must be above 0 and at most 1",
            );
        }
        if let Some(min_p) = self.min_p
            && !(0.0..=1.0).contains(&min_p)
        {
            return refuse("min_p", min_p.to_string(), "it must be between 0 and 1");
        }
        if let Some(penalty) = self.repetition_penalty
            && !(penalty > 0.0 && penalty.is_finite())
        {
            let remedy = "it must be above 0; 1 changes nothing";
            return refuse("repetition_penalty", penalty.to_string(), remedy);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_options_are_refused() {
        for sampling in [
            Sampling {
                temperature: -1.0,
                ..Sampling::default()
            },
            Sampling {
                temperature: f64::NAN,
                ..Sampling::default()
            },
            Sampling {
                top_k: Some(0),
                ..Sampling::default()
            },
            Sampling {
                top_p: Some(1.5),
                ..Sampling::default()
            },
            Sampling {
                min_p: Some(-0.1),
                ..Sampling::default()
            },
            Sampling {
                repetition_penalty: Some(0.0),
                ..Sampling::default()
            },
        ] {
            assert!(sampling.validate().is_err());
        }
    }
}
