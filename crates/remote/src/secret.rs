//! A key that cannot be printed by accident.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// An API key. Its `Debug` is a placeholder, it has no `Display` and no `Serialize`, and its
/// memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a key; white space around it, such as a final line break, is no part of it.
    ///
    /// # Errors
    /// [`Error::Key`] if it is empty or cannot stand in an HTTP header. The error does not quote it.
    pub fn new(key: String) -> Result<Self> {
        let key = Zeroizing::new(key);
        let trimmed = key.trim();
        if trimmed.is_empty() || !trimmed.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Key);
        }
        Ok(Self(Zeroizing::new(trimmed.to_owned())))
    }

    /// The `Authorization` header.
    pub(crate) fn bearer(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", *self.0))
    }

    /// A text in which the key, should it occur, is blotted out.
    pub(crate) fn blot(&self, text: &str) -> String {
        text.replace(self.0.as_str(), "[key]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret([key])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_trimmed_blotted_and_never_shown() {
        let key = Secret::new("sk-abc123\n".to_owned()).unwrap();
        assert_eq!(*key.bearer(), "Bearer sk-abc123");
        assert_eq!(format!("{key:?}"), "Secret([key])");
        assert_eq!(key.blot("wrong key sk-abc123!"), "wrong key [key]!");
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused_without_a_quote() {
        for bad in ["", "  ", "two words", "line\nbreak", "schl\u{fc}ssel"] {
            let error = Secret::new(bad.to_owned()).unwrap_err().to_string();
            assert!(bad.trim().is_empty() || !error.contains(bad), "{error}");
        }
    }
}
