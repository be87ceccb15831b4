//! Typed access to a parsed `config.json`; what is wrong is said in words.

use serde_json::Value;

/// A parsed `config.json` with typed access.
pub(crate) struct Config<'a>(pub(crate) &'a Value);

impl Config<'_> {
    pub(crate) fn size(&self, key: &str) -> Result<usize, String> {
        match self.optional_size(key)? {
            Some(0) => Err(format!("`{key}` is 0; it must be at least 1")),
            Some(size) => Ok(size),
            None => Err(format!("it has no `{key}`")),
        }
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, String> {
        match &self.0[key] {
            Value::Null => Ok(None),
            // Padding is -1 in some files, which means none.
            value if value.as_i64() == Some(-1) => Ok(None),
            value => match value.as_u64().filter(|size| *size <= u64::from(u32::MAX)) {
                Some(size) => Ok(Some(size as usize)),
                None => Err(format!("`{key}` is {value}; it must be a whole number")),
            },
        }
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, String> {
        match &self.0[key] {
            Value::Null => Ok(None),
            value => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(format!("`{key}` is {value}; it must be a number")),
            },
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        match &self.0[key] {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            value => Err(format!("`{key}` is {value}; it must be true or false")),
        }
    }
}
